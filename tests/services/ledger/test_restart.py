"""A node is one of several: each begins from the log, in its own view, and trusts the host in nothing."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from kluis.errors import AuthenticityError, PolicyError, UnavailableError
from kluis.formats.ccf import tables
from kluis.formats.ccf.chunk import Chunk
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.entry import Entry
from kluis.serve.ledger.log import LedgerLog
from kluis.services.ledger.running.log import read_entries
from tests.services.ledger.world import ADMIN, NOBODY, Served, World, run


def _write(world: World, *contents: str) -> list[str]:
    made: list[str] = []

    async def test(served: Served) -> None:
        made.extend([await served.write(one) for one in contents])

    run(world, test)
    return made


def _nonces(folder: Path) -> list[tuple[int, int]]:
    found = []
    for path in sorted(folder.glob("ledger_*")):
        for raw in Chunk.parse(path.read_bytes(), path.name).entries():
            entry = Entry.parse(raw, path.name)
            found.append((entry.view, entry.seqno))
    return found


def test_a_restart_is_a_new_node_in_the_next_view_of_the_same_service(world: World) -> None:
    """It has all that was written, another key, and the certificate that clients pinned."""
    certificates, nodes = set(), set()

    async def test(served: Served) -> None:
        certificates.add(served.node.service.certificate)
        nodes.add(served.node.identity.id if served.node.identity else "")
        page = (await served.ask("GET", "/app/transactions")).json()["entries"]
        assert [one["contents"] for one in page] == [str(one) for one in range(len(page))]
        await served.write(str(len(page)))
        assert served.node.engine.sequencer.view == 1 + len(nodes)
        listed = (await served.ask("GET", "/node/network/nodes", None, version=False)).json()["nodes"]
        assert sorted(one["status"] for one in listed) == ["Retired"] * (len(nodes) - 1) + ["Trusted"]
        history = await served.ask("GET", "/app/commit?view_history=true", None, version=False)
        assert len(history.json()["view_history"]) == len(nodes)

    for _ in range(4):
        run(world, test)
    assert (len(certificates), len(nodes)) == (1, 4)
    nonces = _nonces(world.folder)
    assert len(nonces) == len(set(nonces))


def test_another_image_needs_its_members_vote(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node whose code nobody admitted does not take the log; a restart writes nothing of who may join."""
    _write(world, "one")
    with LedgerLog(world.folder) as log:
        last = int.from_bytes(log.head()[:8], "big")
    _write(world, "two")
    with LedgerLog(world.folder) as log:
        node, head = world.node(log), log.head()
        first = read_entries(log, last + 1, 0)[0]
        writes = PublicDomain.parse(Entry.parse(first, "entry").public, "entry").writes
        assert set(writes) == {tables.NODES, tables.NODE_CERTIFICATES}
        monkeypatch.setattr("tests.services.ledger.world.MEASUREMENT", "cd" * 32)
        with pytest.raises(PolicyError, match="its members did not admit the image cdcd"):
            node.begin("localhost:1")
        assert log.head() == head


def test_users_and_roles_survive(world: World) -> None:
    """They are in the ledger, and not in the settings, which count only at genesis."""

    async def first(served: Served) -> None:
        await served.ask("PATCH", f"/app/users/{NOBODY.user}", ADMIN, json={"assignedRole": "Reader"})

    async def second(served: Served) -> None:
        assert (await served.ask("GET", "/app/transactions", NOBODY)).status_code == 200

    run(world, first)
    world.settings = {"principals": ()}
    run(world, second)


def test_a_log_behind_its_witness_is_refused_and_the_range_is_named(world: World) -> None:
    """A host that puts an older log back loses what was answered, and is found out."""
    _write(world, "one")
    kept = world.folder.with_name("kept")
    shutil.copytree(world.folder, kept)
    _write(world, "two", "three")
    known = world.witness.said.seqno
    shutil.rmtree(world.folder)
    shutil.copytree(kept, world.folder)
    with LedgerLog(world.folder) as log:
        last = int.from_bytes(log.head()[:8], "big")
        with pytest.raises(AuthenticityError, match=f"entries {last + 1} to {known} are missing"):
            world.node(log)


def test_a_log_that_forked_is_refused(world: World) -> None:
    """Two nodes from one older log: the witness knows one of them."""
    _write(world, "one")
    kept, said = world.folder.with_name("kept"), world.witness.said
    shutil.copytree(world.folder, kept)
    _write(world, "two")
    true = world.witness.said
    shutil.rmtree(world.folder)
    shutil.copytree(kept, world.folder)
    world.witness.said = said
    _write(world, "another", "and one more")
    world.witness.said = true
    with (
        LedgerLog(world.folder) as log,
        pytest.raises(AuthenticityError, match="another ledger than the witness"),
    ):
        world.node(log)


@pytest.mark.parametrize("what", ["bit", "swap", "foreign", "empty store"])
def test_a_log_that_was_changed_is_refused(world: World, tmp_path: Path, what: str) -> None:
    """A flipped bit, two entries that changed places, another ledger's files, or files without a service."""
    _write(world, *map(str, range(8)))
    path = world.folder / "ledger_1"
    if what == "foreign":
        other = World(tmp_path / "other")
        _write(other, *map(str, range(8)))
        shutil.copy(other.folder / "ledger_1", path)
    elif what == "empty store":
        world.storage.rows.clear()
    else:
        data = bytearray(path.read_bytes())
        offsets = Chunk.parse(bytes(data), path.name).offsets
        if what == "bit":
            data[offsets[9] - 3] ^= 1
        else:
            one, two = (bytes(data[offsets[at] : offsets[at + 1]]) for at in (6, 8))
            assert len(one) == len(two)
            data[offsets[6] : offsets[7]], data[offsets[8] : offsets[9]] = two, one
        path.write_bytes(data)
    with LedgerLog(world.folder) as log, pytest.raises((AuthenticityError, UnavailableError)):
        world.node(log)


def test_what_is_read_back_is_held_against_its_leaf(world: World) -> None:
    """A host that gives another entry, or none, is found out at each read, and gets into no answer."""

    class Lying:
        """A log that lies on request."""

        def __init__(self, log: LedgerLog) -> None:
            self.log = log
            self.lie = ""

        def head(self) -> bytes:
            return self.log.head()

        def append(self, previous: bytes, batch: bytes) -> str:
            return self.log.append(previous, batch)

        def read(self, first: int, most: int) -> bytes:
            if self.lie == "another":
                return self.log.read(first - 2, most)
            if self.lie == "nothing":
                return b""
            return self.log.read(first, most) if not self.lie else b"x" * 100

        def read_each(self, seqnos: list[int]) -> list[bytes]:
            if self.lie == "too few":
                return [self.read(seqnos[0], 0)]
            return [self.read(seqno, 0) for seqno in seqnos]

    async def test() -> None:
        with LedgerLog(world.folder) as log:
            lying = Lying(log)
            async with world.serving(lying) as served:
                await served.write("one")
                txid = await served.write("two")
                await served.write("three")  # the last batch is read from nobody
                for lie, status in (("another", 503), ("rubbish", 503), ("nothing", 503), ("too few", 503)):
                    lying.lie = lie
                    for path in (f"/app/transactions/{txid}", f"/app/transactions/{txid}/receipt"):
                        answer = await served.ask("GET", path)
                        assert answer.status_code == status, answer.text
                        assert "two" not in answer.text
                lying.lie = ""
                assert (await served.ask("GET", f"/app/transactions/{txid}")).status_code == 200

    asyncio.run(test())


def test_two_nodes_are_never_at_one_log(world: World) -> None:
    """The later one has the log: what the other appends is fenced, and it ends."""

    async def test() -> None:
        with LedgerLog(world.folder) as log:
            async with world.serving(log) as old:
                await old.write("old")
                async with world.serving(log) as new:
                    await new.write("new")
                    answer = await old.ask("POST", "/app/transactions", json={"contents": "late"})
                    assert answer.status_code == 503
                    assert answer.json()["error"]["code"] == "TransactionRolledBack"
                    assert old.node.engine.ended is not None
                    again = await old.ask("POST", "/app/transactions", json={"contents": "later"})
                    assert again.status_code == 503
                    listed = (await new.ask("GET", "/app/transactions")).json()["entries"]
                    assert [one["contents"] for one in listed] == ["old", "new"]

    asyncio.run(test())
