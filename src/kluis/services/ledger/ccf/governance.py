"""Governance of CCF over HTTP: proposals and ballots, acknowledgements, and recovery shares.

A request is a COSE_Sign1 message; its signature identifies the caller, not the connection. Requests run one
at a time, in the thread for scripts: the root in a proposal's id covers all entries before it. Spec: CCF,
"Governance API", ``2024-07-01``; ``src/node/gov/handlers``.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

from kluis.formats.ccf.txid import HEADER
from kluis.formats.encoding import b64
from kluis.ledger.governance import acks, proposals, recovery, requests
from kluis.ledger.governance.constitution import IN_A_NODE, Rules
from kluis.ledger.governance.faults import SharesDoNotFit
from kluis.ledger.governance.proposals import Proposal
from kluis.ledger.governance.requests import Kind, Request
from kluis.ledger.governance.service import NodeEffects
from kluis.ledger.store import Transaction
from kluis.services.clock import Clock
from kluis.services.ledger.node import Node
from kluis.services.ledger.running.engine import Result, Written
from kluis.services.web import Answer, Call, Operation, Refusal

VERSION: Final = "2024-07-01"
COSE: Final = "application/cose"
JAVASCRIPT: Final = "text/javascript"
Handler = Callable[[Call], Awaitable[Answer]]
Decide = Callable[[Transaction, Request, NodeEffects], Any]


class Governance:
    """The operations under ``/gov/members`` and ``/gov/recovery``.

    Args:
        node: the ledger's.
        clock: the host's time.
        rules: limits of scripts; None: those that end the process with a script that nothing interrupts.
    """

    def __init__(self, node: Node, clock: Clock, rules: Rules | None = None) -> None:
        self._node = node
        self._clock = clock
        self.rules = rules or IN_A_NODE

    def operations(self) -> tuple[Operation, ...]:
        """The operations."""
        many = "/gov/members/proposals"
        one, digests = f"{many}/{{proposalId}}", "/gov/members/state-digests/{memberId}"
        ballots = f"{one}/ballots/{{memberId}}"
        return (
            operation("GovProposals", "GET", many, self.list_proposals),
            operation("GovPropose", "POST", f"{many}:create", self.propose),
            operation("GovProposal", "GET", one, self.proposal),
            operation("GovActions", "GET", f"{one}/actions", self.actions),
            operation("GovWithdraw", "POST", f"{one}:withdraw", self.withdraw),
            operation("GovBallot", "GET", ballots, self.ballot),
            operation("GovVote", "POST", f"{ballots}:submit", self.vote),
            operation("GovStateDigest", "GET", digests, self.digest),
            operation("GovUpdateDigest", "POST", f"{digests}:update", self.update_digest),
            operation("GovAck", "POST", f"{digests}:ack", self.acknowledge),
            operation("GovShare", "GET", "/gov/recovery/encrypted-shares/{memberId}", self.share),
            operation("GovRecover", "POST", "/gov/recovery/members/{memberId}:recover", self.recover),
        )

    async def list_proposals(self, call: Call) -> Answer:
        """All proposals of the tables."""
        read = await self._node.engine.read(proposals.proposals)
        return Answer({"value": [one.answer() for one in read.value]})

    async def proposal(self, call: Call) -> Answer:
        """One proposal."""
        read = await self._node.engine.read(lambda state: proposals.find(state, call.path["proposalId"]))
        return Answer(read.value.answer())

    async def actions(self, call: Call) -> Answer:
        """What a proposal would do."""
        read = await self._node.engine.read(lambda state: proposals.actions(state, call.path["proposalId"]))
        return Answer({"actions": read.value})

    async def ballot(self, call: Call) -> Answer:
        """A member's ballot."""
        proposal, member = call.path["proposalId"], call.path["memberId"]
        read = await self._node.engine.read(lambda state: proposals.ballot(state, proposal, member))
        return Answer(read.value, content_type=JAVASCRIPT)

    async def propose(self, call: Call) -> Answer:
        """Submit a proposal."""

        def decide(state: Transaction, request: Request, effects: NodeEffects) -> Proposal:
            root = self._node.ledger.tree.root()
            return proposals.propose(state, request, root, effects, self.rules, now=self._now())

        written = await self._decide(call, Kind.PROPOSAL, decide)
        return _answer(written.value.answer(), written)

    async def vote(self, call: Call) -> Answer:
        """Submit a ballot."""
        proposal, member = call.path["proposalId"], call.path["memberId"]

        def decide(state: Transaction, request: Request, effects: NodeEffects) -> Proposal:
            return proposals.vote(state, request, proposal, member, effects, self.rules)

        written = await self._decide(call, Kind.BALLOT, decide)
        return _answer(written.value.answer(), written)

    async def withdraw(self, call: Call) -> Answer:
        """Withdraw a proposal."""
        proposal = call.path["proposalId"]

        def decide(state: Transaction, request: Request, effects: NodeEffects) -> Proposal | None:
            return proposals.withdraw(state, request, proposal)

        written = await self._decide(call, Kind.WITHDRAWAL, decide)
        return _answer(None if written.value is None else written.value.answer(), written)

    async def digest(self, call: Call) -> Answer:
        """The state digest that a member was last given."""
        member = call.path["memberId"]
        read = await self._node.engine.read(lambda state: acks.digest(state, member))
        return Answer({"memberId": member, "stateDigest": read.value})

    async def update_digest(self, call: Call) -> Answer:
        """Give a member the digest of the present state."""
        member, ledger = call.path["memberId"], self._node.ledger

        def decide(state: Transaction, request: Request, effects: NodeEffects) -> str:
            return acks.update(state, request, member, ledger.tree.root(ledger.last_signature()))

        written = await self._decide(call, Kind.STATE_DIGEST, decide)
        return _answer({"memberId": member, "stateDigest": written.value}, written)

    async def acknowledge(self, call: Call) -> Answer:
        """Acknowledge a state digest; the member is active from then on."""
        member = call.path["memberId"]

        def decide(state: Transaction, request: Request, effects: NodeEffects) -> None:
            acks.acknowledge(state, request, member, effects)

        return _answer(None, await self._decide(call, Kind.ACK, decide))

    async def share(self, call: Call) -> Answer:
        """A member's recovery share, encrypted with the member's key."""
        member = call.path["memberId"]
        read = await self._node.engine.read(lambda state: recovery.encrypted_share(state, member))
        return Answer({"encryptedShare": b64.encode(read.value)})

    async def recover(self, call: Call) -> Answer:
        """Submit a recovery share: no service of one node waits for any."""
        member, secrets = call.path["memberId"], self._node.ledger.secrets

        def decide(
            state: Transaction, request: Request, effects: NodeEffects
        ) -> recovery.Submitted | SharesDoNotFit:
            latest = secrets.latest
            try:
                return recovery.submit(state, request, member, latest, latest.version, os.urandom)
            except SharesDoNotFit as error:  # returned, not raised: that the shares are gone is an entry
                recovery.clear(state)
                return error

        submitted = (await self._decide(call, Kind.RECOVERY_SHARE, decide)).value
        if isinstance(submitted, SharesDoNotFit):
            raise submitted
        body = {
            "message": f"{submitted.count}/{submitted.threshold} recovery shares submitted.",
            "submittedCount": submitted.count,
            "recoveryThreshold": submitted.threshold,
        }
        return Answer(body)

    async def _decide(self, call: Call, kind: Kind, decide: Decide) -> Written:
        """Run a member's request, and what it has the node do, as one entry."""
        content_type = call.headers.get("content-type", "").partition(";")[0].strip()
        if content_type != COSE:
            raise Refusal(
                415, "UnsupportedContentType", f"content-type: want {COSE}, got {content_type[:80]!a}"
            )
        request = requests.parse(call.body, kind)
        # Once more than it counts: what nobody signed neither waits for the script's thread nor ends a batch.
        requests.authenticate(self._node.ledger.store.begin(), request, active=False)

        def work(state: Transaction) -> Result:
            effects = NodeEffects(self._node.knowledge(), self._now(), os.urandom)
            value = decide(state, request, effects)
            self._node.check_stays(state)
            return Result(value, after=lambda txid: self._node.carry_out(effects))

        return await self._node.engine.write(work, alone=True)

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def operation(name: str, method: str, path: str, handler: Any) -> Operation:
    """An operation of the governance API, which wants its version."""
    return Operation(
        name=name,
        method=method,
        path=path,
        handler=_require_version(handler),
        summary=handler.__doc__,
        versioned=False,
        query={"api-version": True},
        status=204 if name == "GovAck" else 200,
    )


def _require_version(handler: Handler) -> Handler:
    async def check(call: Call) -> Answer:
        version = call.query.get("api-version")
        if version is None:
            raise Refusal(
                400,
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
                hint=f"add ?api-version={VERSION}",
            )
        if version != VERSION:
            raise Refusal(
                400,
                "UnsupportedApiVersionValue",
                f"Unsupported api-version {version[:40]!a}. The supported api-versions are: {VERSION}",
            )
        return await handler(call)

    return check


def _answer(body: Any, written: Written) -> Answer:
    return Answer(body, 204 if body is None else 200, headers={HEADER: str(written.txid)})
