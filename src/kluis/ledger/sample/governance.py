"""What the member of a sample ledger decides: an acknowledgement, proposals, and ballots that accept them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Final

from kluis.formats.ccf import endorsement, tables
from kluis.formats.ccf.domain import NewWrites
from kluis.formats.ccf.shares import PastSecret
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.cbor import Key, Writable
from kluis.formats.ietf import cose
from kluis.formats.ietf.cose import Sign1
from kluis.hashes import sha256
from kluis.ledger import shares
from kluis.ledger.sample.parties import MEASUREMENT, Parties, certificate_id
from kluis.ledger.secrets import LedgerSecret

BALLOT: Final = "export function vote (rawProposal, proposerId) { return true }"


def genesis(parties: Parties) -> NewWrites:
    """The first entry: constitution, member, node, service."""
    constitution = resources.files(__package__).joinpath("constitution.js").read_text(encoding="utf-8")
    member, only = parties.member_id.encode(), tables.ONLY
    config = {
        "maximum_node_certificate_validity_days": 365,
        "maximum_service_certificate_validity_days": 365,
        "recovery_threshold": 1,
    }
    return {
        tables.CONSTITUTION: {only: jcs.dumps(constitution)},
        tables.MEMBER_ACKS: {member: jcs.dumps({"state_digest": ""})},
        tables.MEMBER_CERTIFICATES: {member: parties.member.encode()},
        tables.MEMBER_KEYS: {member: parties.member_encryption_pem().encode()},
        tables.MEMBERS: {member: jcs.dumps({"status": "Accepted"})},
        tables.NODE_CERTIFICATES: {parties.node_id.encode(): parties.node.encode()},
        tables.NODES: {parties.node_id.encode(): parties.node_info()},
        "public:ccf.gov.nodes.virtual.host_data": {sha256(b"").hex().encode(): bytes(8)},
        "public:ccf.gov.nodes.virtual.measurements": {MEASUREMENT.encode(): jcs.dumps("AllowedToJoin")},
        tables.SERVICE_CONFIG: {only: jcs.dumps(config)},
        tables.SERVICE_INFO: {only: parties.service_info("Opening")},
    }


class Governance:
    """The member's signed requests, and what they change.

    Args:
        parties: of the ledger.
        clock: gives seconds since 1970.
        random: gives so many unpredictable bytes.
    """

    def __init__(self, parties: Parties, clock: Callable[[], int], random: Callable[[int], bytes]) -> None:
        self._parties = parties
        self._clock = clock
        self._random = random
        self._last: str | None = None
        self._secret_at: int | None = None

    def digest(self, root: bytes) -> NewWrites:
        """The state digest that the member is to acknowledge."""
        return {tables.MEMBER_ACKS: {self._member: jcs.dumps({"state_digest": root.hex()})}}

    def acknowledge(self, root: bytes) -> NewWrites:
        """The member acknowledges a state digest, and is active."""
        body = jcs.dumps({"memberId": self._parties.member_id, "stateDigest": root.hex()})
        request = b64.encode(self._sign("ack", body))
        value = jcs.dumps({"cose_sign1_req": request, "state_digest": root.hex()})
        return {
            tables.MEMBER_ACKS: {self._member: value},
            tables.MEMBERS: {self._member: jcs.dumps({"status": "Active"})},
        }

    def propose(self, root: bytes, actions: list[dict[str, jcs.Writable]]) -> tuple[str, NewWrites]:
        """A proposal, and its id: of ``root``, and of its signature."""
        now, body = self._clock(), jcs.dumps({"actions": actions})
        request = self._sign("proposal", body)
        digest = sha256(Sign1.parse(request, "proposal").signature)
        proposal = sha256(root + digest).hex()
        recent = f"{now:010}:{digest.hex()}".encode()
        return proposal, {
            tables.COSE_HISTORY: {self._member: jcs.dumps(b64.encode(request))},
            tables.RECENT_PROPOSALS: {recent: jcs.dumps(proposal)},
            tables.PROPOSALS: {proposal.encode(): body},
            tables.PROPOSALS_INFO: {proposal.encode(): jcs.dumps(self._info("Open"))},
        }

    def accept(self, proposal: str, changes: NewWrites) -> NewWrites:
        """The ballot that accepts a proposal, with what the proposal changes; the one before is removed."""
        body = jcs.dumps({"ballot": BALLOT})
        request = self._sign("ballot", body, {"ccf.gov.msg.proposal_id": proposal})
        accepted = {
            **self._info("Accepted"),
            "ballots": {self._parties.member_id: BALLOT},
            "final_votes": {self._parties.member_id: True},
            "vote_failures": {},
        }
        writes: NewWrites = {
            tables.COSE_HISTORY: {self._member: jcs.dumps(b64.encode(request))},
            tables.PROPOSALS_INFO: {proposal.encode(): jcs.dumps(accepted)},
            **changes,
        }
        if self._last is not None:
            writes[tables.PROPOSALS_INFO][self._last.encode()] = None
            writes[tables.PROPOSALS] = {self._last.encode(): None}
        self._last = proposal
        return writes

    def open_service(self, secret: LedgerSecret) -> NewWrites:
        """What opening the service changes."""
        parties, only = self._parties, tables.ONLY
        user, start = certificate_id(parties.user).encode(), TxId(2, 1)
        headers = endorsement.headers_of(start, self._clock())
        own = cose.sign1(parties.service_spki, parties.service_key, headers)
        return {
            "public:ccf.gov.users.certs": {user: parties.user.encode()},
            tables.SERVICE_INFO: {only: parties.service_info("Open", 1)},
            tables.PAST_SECRETS: {only: PastSecret(next_version=1).encode()},
            tables.RECOVERY_SHARES: {only: self._shares(secret)},
            tables.IDENTITY_ENDORSEMENT: {only: endorsement.encode_first(own, start, parties.service_spki)},
        }

    def rekey(self, old: LedgerSecret, new: LedgerSecret, opened_at: int) -> NewWrites:
        """What a rekey changes; the new secret is valid from the next entry on."""
        past = PastSecret(encrypted=new.wrap(old, self._random(12)), version=old.version, previous=opened_at)
        self._secret_at = opened_at
        return {
            tables.PAST_SECRETS: {tables.ONLY: past.encode()},
            tables.RECOVERY_SHARES: {tables.ONLY: self._shares(new)},
        }

    @property
    def _member(self) -> bytes:
        return self._parties.member_id.encode()

    def _info(self, state: str) -> dict[str, jcs.Writable]:
        return {"ballots": {}, "proposer_id": self._parties.member_id, "state": state}

    def _shares(self, secret: LedgerSecret) -> bytes:
        keys = {self._parties.member_id: self._parties.member_encryption.public_key()}
        made = shares.share_secret(secret, keys, 1, self._random, previous=self._secret_at)
        return made.encode()

    def _sign(self, kind: str, body: bytes, further: dict[Key, Writable] | None = None) -> bytes:
        headers: dict[Key, Writable] = {
            cose.KEY_ID: self._member,
            "ccf.gov.msg.type": kind,
            **(further or {}),
            "ccf.gov.msg.created_at": self._clock(),
        }
        return cose.sign1(body, self._parties.member_key, headers)
