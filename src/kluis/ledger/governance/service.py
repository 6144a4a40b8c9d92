"""The service's side of governance: its key, its secret, and what opening and rekeying write of them.

Spec: CCF, "Service", "Recovery"; ``src/node/share_manager.h``, ``src/node/node_state.h``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from kluis.errors import FormatError, UsageError
from kluis.formats.ccf import endorsement, tables
from kluis.formats.ccf.service import ServiceStatus
from kluis.formats.ccf.shares import PastSecret
from kluis.formats.ccf.txid import TxId
from kluis.formats.ccf.values import read_json
from kluis.formats.ietf import cose
from kluis.frozen import frozen
from kluis.ledger import certificates
from kluis.ledger.governance import documents
from kluis.ledger.governance.documents import write_json
from kluis.ledger.governance.scripts.crypto import instant
from kluis.ledger.js import HostFault
from kluis.ledger.secrets import LedgerSecret, Secrets
from kluis.ledger.shares import share_secret
from kluis.ledger.store import Transaction

MOST_DAYS: Final = 36_500
_TRACKED: Final = frozenset({tables.SERVICE_INFO, tables.PAST_SECRETS})


class LastWrites:
    """Which entry last wrote the tables whose values name the entry before. Note every entry, in order."""

    def __init__(self) -> None:
        self._at: dict[str, int] = {}

    def note(self, seqno: int, tables_written: Any) -> None:
        """Note an entry: its seqno, and its writes by table."""
        if _TRACKED.isdisjoint(tables_written):  # nearly always
            return
        for table in _TRACKED:
            if table in tables_written:
                self._at[table] = seqno

    def at(self, table: str) -> int | None:
        """The seqno of the entry that last wrote a table; None if none did, or it is not noted."""
        return self._at.get(table)


@frozen(kw_only=True)
class Identity:
    """What a node of the service knows.

    Attributes:
        key: the service's.
        certificate: of the service, PEM.
        secrets: of the ledger.
        written: of the entries so far.
    """

    key: ec.EllipticCurvePrivateKey = dataclasses.field(repr=False)
    certificate: str
    secrets: Secrets
    written: LastWrites


class NodeEffects:
    """The node's side of one transaction. Once it is committed, the node does what the attributes say.

    Args:
        identity: of the service.
        now: seconds since 1970.
        random: gives so many unpredictable bytes.

    Attributes:
        rekeyed: the key, 32 bytes, of the ledger secret from the next entry on; None: it stays.
        closes_chunk: whether the chunk ends with this entry's signature.
        renewed: the certificate of the service from now on, PEM; None: it stays.
        endorsed: certificates that were issued for nodes, PEM.
    """

    __slots__ = ("_identity", "_now", "_random", "closes_chunk", "endorsed", "rekeyed", "renewed")

    def __init__(self, identity: Identity, now: int, random: Callable[[int], bytes]) -> None:
        self._identity = identity
        self._now = now
        self._random = random
        self.rekeyed: bytes | None = None
        self.closes_chunk = False
        self.renewed: str | None = None
        self.endorsed: list[str] = []

    def open_service(self, transaction: Transaction, previous: bytes | None, following: bytes | None) -> None:
        """Open the service, or let it wait for recovery shares; one that is open stays so."""
        info = documents.service_info(transaction)
        status = ServiceStatus(info["status"])
        if status in (ServiceStatus.OPEN, ServiceStatus.WAITING):
            return
        if following is None or following.decode("utf-8", "replace") != info["cert"]:
            raise HostFault("the next service identity is not that of the service")
        if status is ServiceStatus.RECOVERING:
            self._await_shares(transaction, info, previous)
            return
        self.refresh_shares(transaction)
        transaction.put(tables.PAST_SECRETS, tables.ONLY, PastSecret(next_version=1).encode())
        start = TxId.parse(str(info["current_service_create_txid"]), "service")
        spki = self._identity.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        own = cose.sign1(spki, self._identity.key, endorsement.headers_of(start, self._now))
        transaction.put(tables.IDENTITY_ENDORSEMENT, tables.ONLY, endorsement.encode_first(own, start, spki))
        self._set_status(transaction, info, ServiceStatus.OPEN)
        self.closes_chunk = True

    def rekey(self, transaction: Transaction) -> None:
        """Use another ledger secret from the next entry on; the one before is kept under it."""
        if documents.service_info(transaction)["status"] != ServiceStatus.OPEN.value:
            raise HostFault("the ledger is rekeyed once the service is open")
        key, before = self._random(32), self._identity.secrets.latest
        stored = self._identity.written.at(tables.PAST_SECRETS)
        # Its version does not count here: it is not stated of the latest.
        latest = LedgerSecret(key, before.version)
        past = PastSecret(
            encrypted=latest.wrap(before, self._random(12)), version=before.version, previous=stored
        )
        transaction.put(tables.PAST_SECRETS, tables.ONLY, past.encode())
        self._share(transaction, latest, stored)
        self.rekeyed = key

    def refresh_shares(self, transaction: Transaction) -> None:
        """Share the present ledger secret again."""
        if self.rekeyed is not None:
            latest = LedgerSecret(self.rekeyed, self._identity.secrets.latest.version)
            self._share(transaction, latest, self._identity.written.at(tables.PAST_SECRETS))
            return
        previous = None
        if len(self._identity.secrets.all) > 1:
            past = transaction.get(tables.PAST_SECRETS, tables.ONLY)
            previous = None if past is None else PastSecret.parse(past, tables.PAST_SECRETS).previous
        self._share(transaction, self._identity.secrets.latest, previous)

    def endorse_node(self, request: str, valid_from: str, days: int) -> str:
        """Issue a node's certificate."""
        try:
            csr = x509.load_pem_x509_csr(request.encode())
            sound = csr.is_signature_valid
            key = csr.public_key()
        except certificates.NOT_READABLE:
            sound, key, csr = False, None, None
        if not sound or csr is None or not isinstance(key, ec.EllipticCurvePublicKey):
            raise HostFault("the certificate signing request of the node is not valid")
        issued = certificates.node_certificate(
            key,
            self._identity.key,
            self._identity.certificate,
            _from(valid_from),
            names=_names(csr),
            validity=_validity(days),
        )
        self.endorsed.append(issued)
        return issued

    def renew_service(self, valid_from: str, days: int) -> str:
        """Make another certificate of the service's key."""
        subject = x509.load_pem_x509_certificate(self._identity.certificate.encode()).subject
        name = str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
        self.renewed = certificates.service_certificate(
            self._identity.key, _from(valid_from), name=name, validity=_validity(days)
        )
        return self.renewed

    def secret_version(self) -> int:
        """From which seqno the latest ledger secret is valid."""
        return self._identity.secrets.latest.version

    def close_chunk(self) -> None:
        """End the chunk with this entry's signature."""
        self.closes_chunk = True

    def snapshot(self) -> None:
        """Refused: a node reads all of its log when it starts, and takes no snapshots."""
        raise HostFault("nodes of this service take no snapshots")

    def version(self, table: str, key: bytes) -> int | None:
        """The seqno of the entry that last wrote a table of one value; None for others."""
        return self._identity.written.at(table) if key == tables.ONLY else None

    def _await_shares(self, transaction: Transaction, info: dict[str, Any], previous: bytes | None) -> None:
        before = transaction.get(tables.PREVIOUS_IDENTITY, tables.ONLY)
        if (
            before is None
            or previous is None
            or previous.decode("utf-8", "replace") != read_json(before, tables.PREVIOUS_IDENTITY)
        ):
            raise HostFault("the previous service identity is not that of the recovered service")
        self._set_status(transaction, info, ServiceStatus.WAITING)

    def _set_status(self, transaction: Transaction, info: dict[str, Any], status: ServiceStatus) -> None:
        info["status"] = status.value
        if (before := self._identity.written.at(tables.SERVICE_INFO)) is not None:
            info["previous_service_identity_version"] = before
        transaction.put(tables.SERVICE_INFO, tables.ONLY, write_json(info))

    def _share(self, transaction: Transaction, secret: LedgerSecret, previous: int | None) -> None:
        threshold = documents.service_config(transaction).get("recovery_threshold")
        try:
            participants, owners = documents.recovery_keys(transaction)
        except FormatError as error:
            raise HostFault(error.message) from None
        try:
            share = share_secret(
                secret,
                participants,
                threshold if type(threshold) is int else 0,
                self._random,
                owners=owners,
                previous=previous,
            )
        except UsageError:
            raise HostFault(
                f"the number of active recovery members ({len(participants)}) is less than the recovery "
                f"threshold ({threshold})"
            ) from None
        transaction.put(tables.RECOVERY_SHARES, tables.ONLY, share.encode())


def _from(valid_from: str) -> datetime:
    # Certificates usually become valid a little earlier; here the caller gives the start.
    return instant(valid_from) + certificates.EARLY


def _validity(days: int) -> timedelta:
    if not 1 <= days <= MOST_DAYS:
        raise HostFault(f"a certificate is valid for 1 to {MOST_DAYS} days")
    return timedelta(days=days) - certificates.EARLY


def _names(request: x509.CertificateSigningRequest) -> list[str]:
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        raise HostFault(
            "the certificate signing request of the node has no subject alternative name"
        ) from None
    texts = [str(each.value) for each in names if isinstance(each, x509.DNSName | x509.IPAddress)]
    if not texts:
        raise HostFault("the certificate signing request of the node names no host")
    return texts
