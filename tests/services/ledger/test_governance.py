"""CCF's governance over HTTP: a service is opened, members are added, the ledger is rekeyed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.formats.ccf import tables
from kluis.formats.ccf.shares import Share
from kluis.formats.encoding import b64
from kluis.formats.encoding.cbor import Key, Writable
from kluis.formats.ietf import cose
from kluis.hashes import sha256
from kluis.ledger.governance import documents
from kluis.ledger.store import Transaction
from kluis.services.ledger import settings
from kluis.services.ledger.running.engine import Result
from tests.services.ledger.members import VOTE, Member, get, open_by_member
from tests.services.ledger.world import ADMIN, MEMBER, MEMBER_RSA, Identity, Served, World, run

OAEP = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)


@pytest.fixture
def world(tmp_path: Any) -> World:
    """A ledger that nobody has opened."""
    return World(tmp_path / "ledger", open=False)


def test_a_service_is_opened_by_its_member(world: World) -> None:
    """Users get FrontendNotOpen until then."""

    async def test(served: Served) -> None:
        refused = await served.ask("POST", "/app/transactions", json={"contents": "early"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "FrontendNotOpen")
        assert (await served.ask("GET", "/node/ready/app", None)).status_code == 503
        assert (await get(served, "service/info")).json()["status"] == "Opening"
        await open_by_member(served)
        assert (await get(served, "service/info")).json()["status"] == "Open"
        assert (await served.ask("GET", "/node/ready/app", None)).status_code == 204
        await served.write("now")

    run(world, test)


def test_a_proposals_id_is_made_of_the_root_before_it_and_its_signature(world: World) -> None:
    """So anybody with the ledger computes it; entries that were written at the same time are before it."""

    async def test(served: Served) -> None:
        member = await open_by_member(served)
        await served.write("one")
        root = served.node.ledger.tree.root()
        body = json.dumps({"actions": [{"name": "set_user", "args": {"cert": ADMIN.pem}}]}).encode()
        headers: dict[Key, Writable] = {
            cose.KEY_ID: MEMBER.id.encode(),
            "ccf.gov.msg.type": "proposal",
            "ccf.gov.msg.created_at": int(world.clock.now().timestamp()),
        }
        signed = cose.sign1(body, MEMBER.key, headers)
        made = (await member.send("members/proposals:create", "proposal", body, signed=signed)).json()
        signature = cose.Sign1.parse(signed, "request").signature
        assert made["proposalId"] == sha256(root + sha256(signature)).hex()
        assert (await get(served, f"members/proposals/{made['proposalId']}")).json() == made
        actions = (await get(served, f"members/proposals/{made['proposalId']}/actions")).json()
        assert actions["actions"][0]["name"] == "set_user"
        decided = (await member.vote(made["proposalId"])).json()
        assert decided["finalVotes"] == {MEMBER.id: True}
        ballot = await get(served, f"members/proposals/{made['proposalId']}/ballots/{MEMBER.id}")
        assert (ballot.text, ballot.headers["content-type"]) == (VOTE, "text/javascript")
        users = (await get(served, "service/users")).json()["value"]
        assert [one["userId"] for one in users] == [ADMIN.id]
        again = await member.send("members/proposals:create", "proposal", body, signed=signed)
        assert again.json()["error"]["code"] == "ProposalReplay"

    run(world, test)


def test_a_rekey_changes_the_secret_and_a_restart_reads_both(world: World) -> None:
    """Entries before and after are read, and a member's share has the size of one."""
    ids: list[str] = []

    async def first(served: Served) -> None:
        member = await open_by_member(served)
        ids.append(await served.write("before"))
        assert (await member.decide("trigger_ledger_rekey")).json()["proposalState"] == "Accepted"
        ids.append(await served.write("after"))
        versions = [one.version for one in served.node.ledger.secrets.all]
        assert len(versions) == 2
        assert versions[1] <= int(ids[1].partition(".")[2])
        share = (await get(served, f"recovery/encrypted-shares/{MEMBER.id}")).json()["encryptedShare"]
        assert len(MEMBER_RSA.decrypt(b64.decode(share, "share"), OAEP)) == 44
        late = await member.send(f"recovery/members/{MEMBER.id}:recover", "recovery_share", b'{"share":"x"}')
        assert late.json()["error"]["code"] == "ServiceNotWaitingForRecoveryShares"

    async def second(served: Served) -> None:
        assert len(served.node.ledger.secrets.all) == 2
        for txid, contents in zip(ids, ("before", "after"), strict=True):
            found = (await served.ask("GET", f"/app/transactions/{txid}")).json()
            assert found["entry"]["contents"] == contents

    run(world, first)
    run(world, second)


def test_a_second_member_must_agree_then(world: World) -> None:
    """Two members: one ballot leaves a proposal open, and another's request is not one's own."""
    other = Identity("member1")

    async def test(served: Served) -> None:
        member = await open_by_member(served)
        assert (await member.decide("set_member", cert=other.pem)).json()["proposalState"] == "Accepted"
        second = Member(served, other)
        assert (await second.acknowledge()).status_code == 204
        undecided = (await member.decide("set_user", cert=ADMIN.pem)).json()
        assert undecided["proposalState"] == "Open"
        wrong = await second.send(
            f"members/proposals/{undecided['proposalId']}/ballots/{MEMBER.id}:submit",
            "ballot",
            json.dumps({"ballot": VOTE}).encode(),
            undecided["proposalId"],
        )
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "InvalidAuthenticationInfo")
        assert (await second.vote(undecided["proposalId"])).json()["proposalState"] == "Accepted"
        late = await second.vote(undecided["proposalId"])
        assert late.status_code == 200  # the same ballot again
        members = (await get(served, "service/members")).json()["value"]
        assert {one["memberId"]: one["status"] for one in members} == {
            MEMBER.id: "Active",
            other.id: "Active",
        }

    run(world, test)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"content_type": "application/json"}, 415, "UnsupportedContentType"),
        ({"signed": b"rubbish"}, 400, "InvalidInput"),
        ({"at": 99_999_999_999}, 400, "InvalidCreatedAt"),
        ({"at": 9_999_999_999}, 400, "InvalidCreatedAt"),
    ],
)
def test_requests_that_are_none_are_refused(
    world: World, change: dict[str, Any], status: int, code: str
) -> None:
    """With CCF's codes, and nothing is written."""

    async def test(served: Served) -> None:
        member = await open_by_member(served)
        before = served.node.ledger.committed
        answer = await member.send("members/proposals:create", "proposal", b'{"actions":[]}', **change)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert served.node.ledger.committed == before

    run(world, test)


def test_nobody_else_governs(world: World) -> None:
    """Neither a user, nor a member who is not active yet, nor an unknown version of the API."""

    async def test(served: Served) -> None:
        stranger = await Member(served, ADMIN).send("members/proposals:create", "proposal", b'{"actions":[]}')
        assert stranger.status_code == 401
        early = await Member(served).send("members/proposals:create", "proposal", b'{"actions":[]}')
        assert (early.status_code, early.json()["error"]["code"]) == (403, "AuthorizationFailed")
        for query, code in (
            ("", "MissingApiVersionParameter"),
            ("?api-version=1", "UnsupportedApiVersionValue"),
        ):
            answer = await served.ask("GET", f"/gov/service/info{query}", None, version=False)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)

    run(world, test)


def test_what_the_service_tells_of_itself(world: World) -> None:
    """Constitution, nodes, who may join: as CCF's schemas have it."""

    async def test(served: Served) -> None:
        script = await get(served, "service/constitution")
        assert "transition_service_to_open" in script.text
        azure = (await served.ask("GET", "/node/network", None, version=False)).json()
        assert azure["service_certificate"] == served.node.service.certificate
        assert (azure["current_view"], azure["recovery_count"], azure["service_status"]) == (2, 0, "Opening")
        nodes = (await get(served, "service/nodes")).json()["value"]
        assert [one["status"] for one in nodes] == ["Trusted"]
        policy = (await get(served, "service/join-policy")).json()
        assert policy["virtual"]["measurements"] == ["ab" * 32]
        assert (await get(served, "service/jwk")).json()["issuers"] == {}
        quotes = (await served.ask("GET", "/node/quotes", None, version=False)).json()["quotes"]
        assert [one["format"] for one in quotes] == ["Insecure_Virtual"]
        unknown = await get(served, f"members/proposals/{'0' * 64}")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "ProposalNotFound")
        status = (await get(served, "service/transactions/2.1")).json()
        assert status == {"transactionId": "2.1", "status": "Committed"}

    run(world, test)


def test_shares_that_do_not_fit_are_forgotten(world: World) -> None:
    """One of them is wrong, and nobody knows which: after an entry without them, all are submitted again."""
    other, secret = Identity("member1"), rsa.generate_private_key(65537, 2048)
    pem = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    world.settings["members"] = tuple(
        settings.Member(certificate=who.pem, encryption_key=key.public_key().public_bytes(*pem).decode())
        for who, key in ((MEMBER, MEMBER_RSA), (other, secret))
    )
    world.settings["recovery_threshold"] = 2

    async def recover(served: Served, who: Identity, key: rsa.RSAPrivateKey, flip: int) -> Any:
        sealed = (await get(served, f"recovery/encrypted-shares/{who.id}")).json()["encryptedShare"]
        share = Share.parse(key.decrypt(b64.decode(sealed, "share"), OAEP), "share")
        changed = Share(share.x, (share.y[0] ^ flip, *share.y[1:]))
        body = json.dumps({"share": b64.encode(changed.encode())}).encode()
        return await Member(served, who).send(f"recovery/members/{who.id}:recover", "recovery_share", body)

    async def test(served: Served) -> None:
        members = [Member(served), Member(served, other)]
        for member in members:
            assert (await member.acknowledge()).status_code == 204
        certificate = served.node.service.certificate
        arguments = {"next_service_identity": certificate}
        body = json.dumps({"actions": [{"name": "transition_service_to_open", "args": arguments}]}).encode()
        proposal = (await members[0].send("members/proposals:create", "proposal", body)).json()["proposalId"]
        for member in members:
            decided = await member.vote(proposal)
        assert decided.json()["proposalState"] == "Accepted"

        def wait(state: Transaction) -> Result:
            info = documents.service_info(state)
            written = documents.write_json({**info, "status": "WaitingForRecoveryShares"})
            state.put(tables.SERVICE_INFO, tables.ONLY, written)
            return Result(None)

        await served.node.engine.write(wait)
        first = await recover(served, MEMBER, MEMBER_RSA, flip=1)
        assert (first.status_code, first.json()["submittedCount"]) == (200, 1)
        second = await recover(served, other, secret, flip=0)
        assert second.status_code == 400
        assert "do not open the ledger secret together" in second.json()["error"]["message"]
        assert not list(served.node.ledger.store.begin().items(tables.SUBMITTED_SHARES))
        counts = [
            (await recover(served, who, key, flip=0)).json()["submittedCount"]
            for who, key in ((MEMBER, MEMBER_RSA), (other, secret))
        ]
        assert counts == [1, 2]

    run(world, test)
