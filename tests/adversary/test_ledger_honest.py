"""Honest ledgers whose members did what they may: no single one of them makes an auditor blame a service."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.formats.ccf import tables
from kluis.ledger.audit import Report
from kluis.ledger.governance import documents
from kluis.ledger.governance.constitution import Rules
from kluis.ledger.governance.replay import Replay
from tests.keys import rsa_key
from tests.ledger.audit.forge import audited, failed
from tests.ledger.governance.consortium import NOW as CREATED
from tests.ledger.governance.consortium import opened
from tests.services.ledger.members import VOTE, Member, get, open_by_member
from tests.services.ledger.world import Identity, Served, World, run

OTHER = Identity("other")
Act = Callable[[Member], Awaitable[None]]


def kept(world: World, act: Act, *, restarts: bool = False) -> Report:
    """What an auditor finds of a ledger whose only member opened it, and acted."""
    pinned: list[str] = []

    async def first(served: Served) -> None:
        member = await open_by_member(served)
        if not restarts:
            await act(member)
        pinned.append(served.node.service.certificate)

    async def later(served: Served) -> None:
        if restarts:
            await act(Member(served))

    run(world, first)
    run(world, later)
    files = {path.name: path.read_bytes() for path in world.folder.iterdir()}
    return audited(files, service=x509.load_pem_x509_certificate(pinned[0].encode()), replay=Replay())


async def decided(member: Member, *actions: dict[str, Any], ballot: str | None = None, **more: str) -> Any:
    """What becomes of a proposal of some actions; ``more`` are values of its arguments, as JSON."""
    body = json.dumps({"actions": actions})
    for name, value in more.items():
        body = body.replace(f'"{name}"', value)
    proposed = await member.send("members/proposals:create", "proposal", body.encode())
    assert proposed.status_code == 200, proposed.text
    return await member.vote(proposed.json()["proposalId"])


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A ledger that its member opens."""
    return World(tmp_path / "ledger", open=False)


INTERNAL = [tables.SIGNATURES, tables.COSE_SIGNATURES, tables.TREE, tables.RECOVERY_SHARES]
READS = """export function vote() {
  let found = false;
  ccf.kv["%s"].forEach((value) => { found = new Uint8Array(value)[0] < 256; });
  return found;
}"""


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("table", INTERNAL)
def test_a_ballot_that_reads_what_a_node_writes_itself(world: World, table: str, restarts: bool) -> None:
    """A node has its own signatures in its tables, as one that reads them from the log, and as an auditor."""

    async def act(member: Member) -> None:
        body = json.dumps({"actions": [{"name": "trigger_ledger_chunk"}]}).encode()
        proposal = (await member.send("members/proposals:create", "proposal", body)).json()["proposalId"]
        path = f"members/proposals/{proposal}/ballots/{member.who.id}:submit"
        ballot = json.dumps({"ballot": READS % table}).encode()
        answer = await member.send(path, "ballot", ballot, proposal)
        assert answer.json()["proposalState"] == "Accepted"

    assert failed(kept(world, act, restarts=restarts)) == []


@pytest.mark.parametrize("restarts", [False, True])
def test_a_member_that_joins(world: World, restarts: bool) -> None:
    """What the tables have as its state digest is the last signed root."""

    async def act(member: Member) -> None:
        key = rsa_key(20_001).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        answer = await member.decide("set_member", cert=OTHER.pem, encryption_pub_key=key.decode())
        assert answer.json()["proposalState"] == "Accepted"
        digest = (await get(member.served, f"members/state-digests/{OTHER.id}")).json()["stateDigest"]
        assert len(digest) == 64
        assert (await Member(member.served, OTHER).acknowledge()).status_code == 204

    assert failed(kept(world, act, restarts=restarts)) == []


# As a member writes it, and as a script does that reads and writes it again.
DATA = {
    "real": "1.5",
    "large": "1e20",
    "just too large": "9007199254740992.0",
    "deep": "[" * 50 + "]" * 50,
    "long": json.dumps("x" * 900_000),
    "longer when it is written again": f"[{','.join(['1e20'] * 180_000)}]",
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("of", ["node", "member", "user"])
def test_data_that_members_accepted(world: World, of: str, name: str) -> None:
    """The member still governs, the next node begins, and the auditor reads it."""

    async def act(member: Member) -> None:
        node = member.served.node.identity
        assert node is not None
        action = {
            "name": f"set_{of}_data",
            "args": {f"{of}_id": node.id if of == "node" else member.who.id, f"{of}_data": {"x": "DATA"}},
        }
        answer = await decided(member, action, DATA=DATA[name])
        assert answer.json()["proposalState"] == "Accepted", answer.text
        assert (await member.decide("trigger_ledger_rekey")).json()["proposalState"] == "Accepted"
        for path in ("nodes", "members", "users"):
            assert (await get(member.served, f"service/{path}")).status_code == 200
        for path in ("/node/network/nodes", "/node/quotes"):
            assert (await member.served.ask("GET", path, None, version=False)).status_code == 200

    assert failed(kept(world, act)) == []


def test_a_request_as_large_as_a_node_takes(world: World) -> None:
    """It is in the ledger in base64, and accepted or not: its member alone chooses it."""

    async def act(member: Member) -> None:
        body = {"actions": [{"name": "trigger_ledger_chunk"}], "x": "x" * 1_000_000}
        sent = await member.send("members/proposals:create", "proposal", json.dumps(body).encode())
        assert sent.status_code == 200
        given = (await get(member.served, f"members/state-digests/{member.who.id}")).json()["stateDigest"]
        ack = json.dumps({"stateDigest": given, "x": "x" * 1_000_000}).encode()
        path = f"members/state-digests/{member.who.id}:ack"
        assert (await member.send(path, "ack", ack)).status_code == 204

    assert failed(kept(world, act)) == []


def test_requests_with_more_in_them_than_they_need(world: World) -> None:
    """What a node passes over in a ballot or an acknowledgement is no fault of its ledger."""
    more = f'"x":[1.5,1e20,12345678901234567890,{"[" * 50}{"]" * 50}]'

    async def act(member: Member) -> None:
        given = (await get(member.served, f"members/state-digests/{member.who.id}")).json()["stateDigest"]
        ack = f'{{"stateDigest":"{given}",{more}}}'.encode()
        path = f"members/state-digests/{member.who.id}:ack"
        assert (await member.send(path, "ack", ack)).status_code == 204
        body = f'{{"actions":[{{"name":"trigger_ledger_chunk"}}],{more}}}'.encode()
        sent = await member.send("members/proposals:create", "proposal", body)
        proposal = sent.json()["proposalId"]
        path = f"members/proposals/{proposal}/ballots/{member.who.id}:submit"
        ballot = f'{{"ballot":{json.dumps(VOTE)},{more}}}'.encode()
        answer = await member.send(path, "ballot", ballot, proposal)
        assert answer.json()["proposalState"] == "Accepted", answer.text

    assert failed(kept(world, act)) == []


RENEWALS = [
    ({"name": "set_service_certificate_validity"}, {"name": "set_service_certificate_validity"}),
    ({"name": "set_all_nodes_certificate_validity"}, {"name": "set_all_nodes_certificate_validity"}),
]


@pytest.mark.parametrize("actions", RENEWALS)
@pytest.mark.parametrize("together", [True, False])
def test_certificates_that_are_renewed_twice(
    world: World, actions: tuple[dict[str, Any], ...], together: bool
) -> None:
    """In one proposal, whose entry has the last certificate, or one after the other."""
    first, second = (
        {**each, "args": {"valid_from": f"20{year}-11-01T00:00:00Z", "validity_period_days": days}}
        for each, year, days in zip(actions, (26, 28), (100, 30), strict=True)
    )

    async def act(member: Member) -> None:
        for proposal in [(first, second)] if together else [(first,), (second,)]:
            answer = await decided(member, *proposal)
            assert answer.json()["proposalState"] == "Accepted", answer.text

    assert failed(kept(world, act)) == []


def test_a_node_that_members_remove_goes_on_signing_nothing_that_fails(world: World) -> None:
    """The proposal is not applied: an auditor would believe none of the node's later signatures."""

    async def act(member: Member) -> None:
        node = member.served.node.identity
        assert node is not None
        answer = await member.decide("remove_node", node_id=node.id)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "InternalError")
        assert "want Trusted, got 'Retired': it signs this ledger" in answer.text
        assert (await member.decide("trigger_ledger_chunk")).json()["proposalState"] == "Accepted"

    assert failed(kept(world, act)) == []


@pytest.mark.parametrize("change", ["trace", "reason", "none"])
def test_why_a_ballot_failed_is_not_what_it_came_to(change: str) -> None:
    """Its words name places in modules of ours, which another version has elsewhere."""
    consortium = opened(3, rules=Rules())
    one, two, three = consortium.members
    proposal = consortium.propose({"name": "trigger_ledger_chunk"}, created_at=CREATED + 1)
    consortium.vote(proposal, one, 'export const vote = () => ccf.kv["x"].get(1);')
    consortium.vote(proposal, two)
    assert consortium.vote(proposal, three).state == "Accepted"
    assert consortium.replayed() == []
    row = proposal.id.encode()
    info = json.loads(consortium.entries[-1].writes[tables.PROPOSALS_INFO][row] or b"")
    if change == "none":
        info["vote_failures"] = {}
        info["final_votes"][one.id] = False
    else:
        assert info["vote_failures"][one.id].pop(change)
    rows = {**consortium.entries[-1].writes[tables.PROPOSALS_INFO], row: documents.write_json(info)}
    consortium.entries[-1].writes = {**consortium.entries[-1].writes, tables.PROPOSALS_INFO: rows}
    assert len(consortium.replayed()) == (change == "none")
