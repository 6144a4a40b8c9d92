"""Members of a ledger in this process, who sign and send requests of CCF's governance API."""

from __future__ import annotations

import json
from typing import Any

from kluis.formats.encoding.cbor import Key, Writable
from kluis.formats.ietf import cose
from tests.services.ledger.world import MEMBER, Identity, Served

VOTE = "export function vote (proposal, proposerId) { return true }"
QUERY = "api-version=2024-07-01"


class Member:
    """A member that signs."""

    def __init__(self, served: Served, who: Identity = MEMBER) -> None:
        self.served = served
        self.who = who

    async def send(self, path: str, kind: str, body: bytes, proposal: str | None = None, **more: Any) -> Any:
        """One signed request."""
        now = int(self.served.node._around.clock.now().timestamp())  # as the service's clock
        headers: dict[Key, Writable] = {
            cose.KEY_ID: self.who.id.encode(),
            "ccf.gov.msg.type": kind,
            **({"ccf.gov.msg.proposal_id": proposal} if proposal else {}),
            "ccf.gov.msg.created_at": more.get("at", now),
        }
        signed = more.get("signed") or cose.sign1(body, self.who.key, headers)
        content = {"content-type": more.get("content_type", "application/cose")}
        return await self.served.ask(
            "POST", f"/gov/{path}?{QUERY}", None, version=False, content=signed, headers=content
        )

    async def acknowledge(self) -> Any:
        """Become active."""
        digests = f"members/state-digests/{self.who.id}"
        given = (await self.send(f"{digests}:update", "state_digest", b"")).json()["stateDigest"]
        return await self.send(f"{digests}:ack", "ack", json.dumps({"stateDigest": given}).encode())

    async def decide(self, name: str, /, **arguments: Any) -> Any:
        """Propose one action, and vote for it."""
        body = json.dumps({"actions": [{"name": name, "args": arguments}]}).encode()
        proposed = await self.send("members/proposals:create", "proposal", body)
        assert proposed.status_code == 200, proposed.text
        return await self.vote(proposed.json()["proposalId"])

    async def vote(self, proposal: str) -> Any:
        """Vote for a proposal."""
        path = f"members/proposals/{proposal}/ballots/{self.who.id}:submit"
        return await self.send(path, "ballot", json.dumps({"ballot": VOTE}).encode(), proposal)


async def get(served: Served, path: str) -> Any:
    """What the governance API answers."""
    return await served.ask("GET", f"/gov/{path}?{QUERY}", None, version=False)


async def open_by_member(served: Served) -> Member:
    """Have the only member open the service; gives the member."""
    member = Member(served)
    assert (await member.acknowledge()).status_code == 204
    certificate = served.node.service.certificate
    decided = await member.decide("transition_service_to_open", next_service_identity=certificate)
    assert decided.json()["proposalState"] == "Accepted", decided.text
    return member
