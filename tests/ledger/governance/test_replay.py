"""Governance done again: real ledgers give what they recorded, and each changed row is found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import Writes
from kluis.ledger.governance.replay import BY_NODES, NOT_COMPARED, Replay
from tests.ledger.governance import real
from tests.ledger.governance.consortium import NOW, YES, Party, opened

REQUESTS = {"acme": 3, "flipflop": 6, "dr_double_sealed": 9}
USER = Party(51, encrypts=False)


@real.needed
@pytest.mark.parametrize("name", real.LEDGERS)
def test_real_ledgers(name: str) -> None:
    """Every proposal and ballot, under CCF's own constitution, gives the recorded tables byte for byte."""
    replay, found = Replay(), []
    for seqno, writes, root in real.entries(name):
        found += replay.entry(seqno, writes, [root])

    assert found == []
    assert replay.count == REQUESTS[name]


def changed(writes: Writes) -> Iterator[tuple[str, bytes, Writes]]:
    """Copies of writes, with one governance row changed each."""
    for table in writes:
        if not table.startswith(tables.GOVERNANCE) or table in NOT_COMPARED:
            continue
        for key, value in writes[table].items():
            other = b'{"x":1}' if value is None else value[:-2] + bytes([value[-2] ^ 1]) + value[-1:]
            yield table, key, {**writes, table: {**writes[table], key: other}}


@real.needed
@pytest.mark.parametrize("name", real.LEDGERS)
def test_a_changed_row(name: str) -> None:
    """It is found wherever a member decided it; nodes' own rows are for other checks."""
    before: list[real.Recorded] = []
    tried, missed = 0, []
    for entry in real.entries(name):
        governed = any(table.startswith(tables.GOVERNANCE) for table in entry.writes)
        by_nodes = entry.seqno == 1 or all(
            table in BY_NODES or table.startswith("public:ccf.gov.nodes.")
            for table in entry.writes
            if table.startswith(tables.GOVERNANCE)
        )
        if governed and not by_nodes:
            for table, key, writes in changed(entry.writes):
                replay = Replay()
                for earlier in before:
                    replay.skip(earlier.seqno, earlier.writes)
                tried += 1
                if not replay.entry(entry.seqno, writes, [entry.root]):
                    missed.append((entry.seqno, table, key))
        before.append(entry)

    assert missed == []
    assert tried >= 20


def test_orphans() -> None:
    """A governance table that changes without a request is found, whichever it is."""
    consortium = opened()
    planted: list[Writes] = [
        {"public:ccf.gov.users.certs": {USER.id.encode(): USER.certificate.encode()}},
        {tables.CONSTITUTION: {tables.ONLY: b'"export function validate() {}"'}},
        {tables.MEMBERS: {USER.id.encode(): b'{"status":"Active"}'}},
        {tables.SERVICE_INFO: {tables.ONLY: b'{"cert":"x","status":"Open"}'}},
        {tables.SERVICE_INFO: {tables.ONLY: b'{"status":"Recovering"}'}, tables.MEMBERS: {b"x": b"{}"}},
        {tables.MEMBER_ACKS: {USER.id.encode(): b'{"state_digest":"00"}', b"x": b"{}"}},
        {tables.COSE_HISTORY: {USER.id.encode(): b'"AA=="'}},
        {tables.COSE_HISTORY: {}},
        {"public:ccf.gov.nodes.virtual.measurements": {b"x": b'"AllowedToJoin"'}},
    ]
    for writes in planted:
        entries = list(consortium.entries)
        consortium.commit(writes)
        ((seqno, problems),) = consortium.replayed()
        assert seqno == len(entries) + 1
        assert problems
        consortium.entries = entries
        consortium.store.rollback(len(entries))


def test_a_doctored_build() -> None:
    """A node that writes a row more, or another one, with an accepted proposal is found."""
    consortium = opened()
    consortium.accept({"name": "set_user", "args": {"cert": USER.certificate}}, created_at=NOW + 1)
    entry = consortium.entries[-1]
    good = entry.writes
    for doctored in (
        {**good, "public:ccf.gov.users.certs": {b"me": b"mine"}},
        {**good, "public:ccf.gov.users.info": {USER.id.encode(): b"{}"}},
        {**good, tables.JWT_KEYS: {b"kid": b"[]"}},
        {**good, "public:balances": {b"me": b"1"}},
        {name: rows for name, rows in good.items() if name != "public:ccf.gov.users.certs"},
    ):
        entry.writes = doctored
        ((_, problems),) = consortium.replayed()
        assert problems
    entry.writes = good
    assert consortium.replayed() == []


def test_a_root_of_before() -> None:
    """A proposal that was begun before other entries were written has the id of an older root."""
    consortium = opened(1)
    older = consortium.root
    proposal = consortium.propose({"name": "trigger_ledger_chunk"}, created_at=NOW + 1)
    consortium.vote(proposal, consortium.members[0], YES)
    entry = consortium.entries[-2]
    assert entry.root == older

    replay = Replay()
    for seqno, each in enumerate(consortium.entries, 1):
        roots = [b"x" * 32, each.root] if each is entry else [each.root]
        assert replay.entry(seqno, each.writes, roots) == []
    replay = Replay()
    found = [
        replay.entry(seqno, each.writes, [b"x" * 32]) for seqno, each in enumerate(consortium.entries, 1)
    ]
    assert any(found)
