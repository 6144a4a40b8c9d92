"""The node's side of a past transaction, read from the entry and checked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import Writes
from kluis.formats.ccf.shares import RecoveryShares
from kluis.formats.ccf.values import read_json
from kluis.ledger.certificates import NOT_READABLE
from kluis.ledger.governance import documents
from kluis.ledger.governance.documents import load_certificate, read_object, write_json
from kluis.ledger.governance.scripts.crypto import instant
from kluis.ledger.governance.service import MOST_DAYS, LastWrites
from kluis.ledger.js import HostFault
from kluis.ledger.store import Transaction

_VERSION: Final = "previous_service_identity_version"
_DAY: Final = timedelta(days=1)
_SERVICE: Final = b"service"


class RecordedEffects:
    """The effects of ``apply()``, as an entry recorded them.

    Args:
        writes: of the entry.
        written: of the entries before.
    """

    def __init__(self, writes: Writes, written: LastWrites) -> None:
        self._writes = writes
        self._written = written
        self._problems: list[str] = []
        self._requested: dict[bytes, tuple[x509.Certificate, datetime, int]] = {}

    @property
    def problems(self) -> list[str]:
        """What the entry does not have, one sentence each."""
        # A proposal may issue one twice: the entry has the last one.
        wrong = any(not _is_valid_as(*each) for each in self._requested.values())
        said = "an issued certificate does not have the validity of its request"
        return [*self._problems, *([said] if wrong else [])]

    def open_service(self, transaction: Transaction, previous: bytes | None, following: bytes | None) -> None:
        """Change the status; take the shares and the endorsement of the key from the entry."""
        info = documents.service_info(transaction)
        if info["status"] in ("Open", "WaitingForRecoveryShares"):
            return
        if following is None or following.decode("utf-8", "replace") != info["cert"]:
            raise HostFault("the next service identity is not that of the service")
        if info["status"] == "Recovering":
            before = transaction.get(tables.PREVIOUS_IDENTITY, tables.ONLY)
            stated = None if before is None else read_json(before, tables.PREVIOUS_IDENTITY)
            if previous is None or previous.decode("utf-8", "replace") != stated:
                raise HostFault("the previous service identity is not that of the recovered service")
            info["status"] = "WaitingForRecoveryShares"
        else:
            info["status"] = "Open"
            self._take(transaction, tables.RECOVERY_SHARES)
            self._take(transaction, tables.PAST_SECRETS)
            self._take(transaction, tables.IDENTITY_ENDORSEMENT, needed=False)
        value = write_json(info)
        # Some versions of CCF state the entry before, and some do not.
        if (before_at := self._written.at(tables.SERVICE_INFO)) is not None:
            other = write_json({**info, _VERSION: before_at})
            if self._writes.get(tables.SERVICE_INFO, {}).get(tables.ONLY) == other:
                value = other
        transaction.put(tables.SERVICE_INFO, tables.ONLY, value)

    def rekey(self, transaction: Transaction) -> None:
        """Take the shares of the new secret, and the one before under it, from the entry."""
        self._take(transaction, tables.RECOVERY_SHARES)
        self._take(transaction, tables.PAST_SECRETS)

    def refresh_shares(self, transaction: Transaction) -> None:
        """Take the shares from the entry."""
        self._take(transaction, tables.RECOVERY_SHARES)

    def endorse_node(self, request: str, valid_from: str, days: int) -> str:
        """The entry's certificate for the request's key, with the requested validity."""
        try:
            wanted = x509.load_pem_x509_csr(request.encode()).public_key()
        except NOT_READABLE:
            raise HostFault("the certificate signing request of the node is not valid") from None
        der = wanted.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for value in self._writes.get(tables.NODE_CERTIFICATES, {}).values():
            if value is None:
                continue
            certificate = load_certificate(value, tables.NODE_CERTIFICATES)
            if certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == der:
                self._request(der, certificate, valid_from, days)
                return value.decode()
        raise HostFault("the entry has no certificate of the node's key")

    def renew_service(self, valid_from: str, days: int) -> str:
        """The certificate of the entry, which the service's own key must have signed."""
        value = self._writes.get(tables.SERVICE_INFO, {}).get(tables.ONLY)
        pem = str(read_object(value, tables.SERVICE_INFO)["cert"]) if value is not None else ""
        certificate = load_certificate(pem.encode(), tables.SERVICE_INFO)
        try:
            certificate.verify_directly_issued_by(certificate)
        except (ValueError, TypeError, InvalidSignature):
            self._problems.append("the renewed certificate of the service is not signed by itself")
        self._request(_SERVICE, certificate, valid_from, days)
        return pem

    def secret_version(self) -> int:
        """What the entry states of the node that it admits."""
        for value in self._writes.get(tables.NODES, {}).values():
            if (
                value is not None
                and type(at := read_object(value, tables.NODES).get("ledger_secret_seqno")) is int
            ):
                return at
        return 0

    def close_chunk(self) -> None:
        """The tables do not record this."""

    def snapshot(self) -> None:
        """The tables do not record this."""

    def version(self, table: str, key: bytes) -> int | None:
        """As the node had it."""
        return self._written.at(table) if key == tables.ONLY else None

    def _take(self, transaction: Transaction, table: str, *, needed: bool = True) -> None:
        value = self._writes.get(table, {}).get(tables.ONLY)
        if value is not None:
            transaction.put(table, tables.ONLY, value)
        elif needed:
            self._problems.append(f"table {table}: is not written, and its request writes it")

    def _request(self, whose: bytes, certificate: x509.Certificate, valid_from: str, days: int) -> None:
        if not 1 <= days <= MOST_DAYS:
            raise HostFault(f"a certificate is valid for 1 to {MOST_DAYS} days")
        self._requested[whose] = certificate, instant(valid_from), days


def _is_valid_as(certificate: x509.Certificate, start: datetime, days: int) -> bool:
    # CCF's certificates end a second early.
    return (
        abs(certificate.not_valid_before_utc - start) <= _DAY
        and certificate.not_valid_after_utc <= start + timedelta(days=days) + _DAY
    )


def problem_of_shares(transaction: Transaction, writes: Writes) -> Iterator[str]:
    """What is wrong with the recovery shares of an entry: each active member with a key has one.

    Args:
        transaction: that has the entry's other writes.
        writes: of the entry.
    """
    value = writes.get(tables.RECOVERY_SHARES, {}).get(tables.ONLY)
    if value is None:
        return
    shares = RecoveryShares.parse(value, tables.RECOVERY_SHARES)
    participants, owners = documents.recovery_keys(transaction)
    wanted = {**participants, **owners}
    if shares.shares.keys() != wanted.keys():
        yield (
            f"table {tables.RECOVERY_SHARES}: has shares of {len(shares.shares)} members, and not of the "
            f"{len(wanted)} active members with a key for one"
        )
    for name, share in shares.shares.items():
        if name in wanted and len(share) != wanted[name].key_size // 8:
            yield f"table {tables.RECOVERY_SHARES}: the share of {name} is not as long as the member's key"
    threshold: Any = documents.service_config(transaction).get("recovery_threshold")
    if type(threshold) is not int or not 1 <= threshold <= len(participants):
        most = len(participants)
        yield f"table {tables.SERVICE_CONFIG}: want a recovery threshold of 1 to {most}, got {threshold!a}"
