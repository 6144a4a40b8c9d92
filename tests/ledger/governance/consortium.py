"""A consortium for tests: members who sign, and a ledger in memory that takes their requests one by one."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import Writes
from kluis.formats.encoding import cbor
from kluis.formats.ietf import cose
from kluis.ledger import certificates
from kluis.ledger.governance import acks, documents, genesis, proposals, requests
from kluis.ledger.governance.constitution import Rules
from kluis.ledger.governance.proposals import Proposal
from kluis.ledger.governance.replay import Replay
from kluis.ledger.governance.requests import Kind
from kluis.ledger.governance.service import Identity, LastWrites, NodeEffects
from kluis.ledger.secrets import LedgerSecret, Secrets
from kluis.ledger.store import Store, Transaction
from tests.keys import rsa_key

NOW = 1_790_000_000
DATE = datetime.fromtimestamp(NOW, UTC)
YES = "export function vote() { return true; }"
NO = "export function vote() { return false; }"
CURVES = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}


@functools.cache
def key(number: int, bits: int = 384) -> ec.EllipticCurvePrivateKey:
    """A key, the same for the same number."""
    return ec.derive_private_key(number + 5_000_011, CURVES[bits])


def encryption_key(number: int) -> rsa.RSAPrivateKey:
    """An RSA key, the same for the same number in a run of the tests."""
    return rsa_key(10_000 + number)


def pem_of(public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> str:
    """A public key in PEM."""
    return public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


class Party:
    """A member or a user, with keys."""

    def __init__(
        self, number: int, *, bits: int = 384, encrypts: bool = True, role: str | None = None
    ) -> None:
        self.key = key(number, bits)
        self.certificate = _certificate(number, bits)
        self.id = documents.certificate_id(self.certificate.encode(), "certificate")
        self.rsa = encryption_key(number) if encrypts else None
        self.role = role

    @property
    def encryption_pem(self) -> str | None:
        return None if self.rsa is None else pem_of(self.rsa.public_key())

    def first(self) -> genesis.FirstMember:
        return genesis.FirstMember(
            certificate=self.certificate, encryption_key=self.encryption_pem, recovery_role=self.role
        )

    def sign(
        self,
        kind: Kind,
        payload: object,
        *,
        proposal_id: str | None = None,
        created_at: int = NOW,
        **other: Any,
    ) -> bytes:
        """A request of this party; a payload that is no bytes becomes JSON."""
        headers: dict[cbor.Key, Any] = {
            cose.KEY_ID: self.id.encode(), requests.TYPE: kind.value, requests.CREATED_AT: created_at,
        }  # fmt: skip
        if proposal_id is not None:
            headers[requests.PROPOSAL_ID] = proposal_id
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return cose.sign1(body, self.key, {**headers, **other})


@functools.cache
def _certificate(number: int, bits: int) -> str:
    return certificates.member_certificate(key(number, bits), DATE, name=f"party{number}")


@dataclasses.dataclass
class Entry:
    """One committed transaction."""

    writes: Writes
    root: bytes


class Consortium:
    """A ledger's tables, and the members who govern them. Roots are made up, but each is another one."""

    def __init__(
        self,
        count: int = 3,
        *,
        threshold: int = 1,
        constitution: str | None = None,
        members: list[Party] | None = None,
        rules: Rules | None = None,
    ) -> None:
        self.members = members or [Party(number) for number in range(count)]
        self.service_key = key(900)
        self.certificate = _service_certificate()
        self.secrets = Secrets([LedgerSecret(bytes(range(32)), 1)])
        self.written = LastWrites()
        self.store = Store()
        self.entries: list[Entry] = []
        self.rules = rules or Rules()
        self.random = _random()
        self.effects = self._new_effects()
        self.commit(
            genesis.genesis(
                service_certificate=self.certificate,
                members=[each.first() for each in self.members],
                node=genesis.FirstNode(
                    id="ab" * 32, info={"certificate_signing_request": "none"}, certificate="none\n",
                    admitted={"public:ccf.gov.nodes.virtual.host_data": {"00" * 32: bytes(8)}},
                ),
                threshold=threshold,
                source=constitution,
            )
        )  # fmt: skip

    def _new_effects(self) -> NodeEffects:
        identity = Identity(
            key=self.service_key, certificate=self.certificate, secrets=self.secrets, written=self.written
        )
        return NodeEffects(identity, NOW, self.random)

    @property
    def root(self) -> bytes:
        return hashlib.sha256(b"root %d" % self.store.version).digest()

    def commit(self, writes: Writes) -> None:
        root = self.root
        self.store.apply(self.store.version + 1, writes)
        self.written.note(self.store.version, writes)
        self.entries.append(Entry({name: dict(rows) for name, rows in writes.items()}, root))
        if self.effects.rekeyed is not None:
            self.secrets.add(LedgerSecret(self.effects.rekeyed, self.store.version + 1))

    def run(self, act: Callable[[Transaction], Any]) -> Any:
        """Run something in a transaction, and commit it if it returns."""
        transaction = self.store.begin()
        self.effects = self._new_effects()
        result = act(transaction)
        if transaction.writes:
            self.commit(transaction.writes)
        return result

    def get(self, table: str, key_: bytes | str = tables.ONLY) -> bytes | None:
        return self.store.begin().get(table, key_.encode() if isinstance(key_, str) else key_)

    def json(self, table: str, key_: bytes | str = tables.ONLY) -> Any:
        data = self.get(table, key_)
        return None if data is None else json.loads(data)

    def activate(self, *parties: Party) -> None:
        for party in parties or self.members:
            self._activate(party)

    def _activate(self, party: Party) -> None:
        digest = party.sign(Kind.STATE_DIGEST, {})
        given = self.run(
            lambda t: acks.update(t, requests.parse(digest, Kind.STATE_DIGEST), party.id, self.root)
        )
        signed = party.sign(Kind.ACK, {"memberId": party.id, "stateDigest": given})
        self.run(lambda t: acks.acknowledge(t, requests.parse(signed, Kind.ACK), party.id, self.effects))

    def submit(self, raw: bytes, *, now: int | None = NOW) -> Proposal:
        request = requests.parse(raw, Kind.PROPOSAL)
        found = self.run(
            lambda t: proposals.propose(t, request, self.root, self.effects, self.rules, now=now)
        )
        assert isinstance(found, Proposal)
        return found

    def propose(
        self, *actions: Mapping[str, Any], by: Party | None = None, created_at: int = NOW
    ) -> Proposal:
        member = by or self.members[0]
        # Two proposals of the same content within a second are one: CCF's are, too.
        return self.submit(member.sign(Kind.PROPOSAL, {"actions": list(actions)}, created_at=created_at))

    def vote(self, proposal: Proposal | str, by: Party, script: str = YES) -> Proposal:
        proposal_id = proposal if isinstance(proposal, str) else proposal.id
        raw = by.sign(Kind.BALLOT, {"ballot": script}, proposal_id=proposal_id)
        request = requests.parse(raw, Kind.BALLOT)
        found = self.run(lambda t: proposals.vote(t, request, proposal_id, by.id, self.effects, self.rules))
        assert isinstance(found, Proposal)
        return found

    def withdraw(self, proposal_id: str, by: Party) -> Proposal | None:
        request = requests.parse(by.sign(Kind.WITHDRAWAL, b"", proposal_id=proposal_id), Kind.WITHDRAWAL)
        found: Proposal | None = self.run(lambda t: proposals.withdraw(t, request, proposal_id))
        return found

    def accept(self, *actions: Mapping[str, Any], created_at: int = NOW) -> Proposal:
        """Propose, and vote until it is decided."""
        proposal = self.propose(*actions, created_at=created_at)
        for member in self.members:
            if proposal.state == proposals.OPEN:
                proposal = self.vote(proposal, member)
        assert proposal.state == proposals.ACCEPTED
        return proposal

    def open(self) -> Proposal:
        return self.accept(
            {"name": "transition_service_to_open", "args": {"next_service_identity": self.certificate}}
        )

    def replayed(self) -> list[tuple[int, list[str]]]:
        """What an auditor finds, by seqno."""
        replay, found = Replay(self.rules), []
        for seqno, entry in enumerate(self.entries, 1):
            if problems := replay.entry(seqno, entry.writes, [entry.root]):
                found.append((seqno, problems))
        return found


@functools.cache
def _service_certificate() -> str:
    return certificates.service_certificate(key(900), DATE)


def _random() -> Callable[[int], bytes]:
    count = 0

    def random(size: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.shake_256(b"%d" % count).digest(size)

    return random


def opened(count: int = 3, **options: Any) -> Consortium:
    """A consortium whose members are active and whose service is open."""
    consortium = Consortium(count, **options)
    consortium.activate()
    consortium.open()
    return consortium
