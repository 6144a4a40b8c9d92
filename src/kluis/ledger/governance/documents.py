"""Values of the governance tables: JSON as CCF writes it, and what governance itself reads and changes.

Spec: CCF, "Built-in Maps", ``include/ccf/service/tables``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kluis.errors import FormatError, InternalError
from kluis.formats.ccf import tables
from kluis.formats.ccf.shares import LIMBS, MAX_SHARE, Share
from kluis.formats.ccf.values import read_json
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.ledger.certificates import NOT_READABLE
from kluis.ledger.shares import encrypt_share
from kluis.ledger.store import Transaction

MOST_BITS: Final = 8 * MAX_SHARE
"""Of a member's encryption key, whose share is as long."""
_TRIAL: Final = Share(0, (0,) * LIMBS)


def write_json(value: Any) -> bytes:
    """JSON as CCF's services write it: without spaces, keys sorted."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def read_object(data: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FormatError: as :func:`read_json`, or another value.
    """
    value = read_json(data, what)
    if not isinstance(value, dict):
        raise FormatError(f"{what}: want an object, got something else", code="bad_type")
    return value


@frozen
class Member:
    """A member of the consortium.

    Attributes:
        id: SHA-256 of the certificate, in hexadecimal.
        info: status, and what else the table has.
        encryption_key: PEM; None for a member without one.
    """

    id: str
    info: Mapping[str, Any]
    encryption_key: bytes | None

    @property
    def active(self) -> bool:
        """Whether the member acknowledged the state, and may propose and vote."""
        return self.info.get("status") == "Active"

    @property
    def recovery_role(self) -> str:
        """``Participant``, ``Owner`` or ``NonParticipant``."""
        if self.encryption_key is None:
            return "NonParticipant"
        return str(self.info.get("recovery_role") or "Participant")


def member(transaction: Transaction, member_id: str) -> Member | None:
    """The member with an id; None if there is none."""
    key = member_id.encode()
    if (data := transaction.get(tables.MEMBERS, key)) is None:
        return None
    return Member(
        member_id, read_object(data, f"member {member_id}"), transaction.get(tables.MEMBER_KEYS, key)
    )


def members(transaction: Transaction) -> list[Member]:
    """All members, by id."""
    return [
        Member(key.decode(), read_object(data, "member"), transaction.get(tables.MEMBER_KEYS, key))
        for key, data in transaction.items(tables.MEMBERS)
    ]


def recovery_keys(
    transaction: Transaction,
) -> tuple[dict[str, rsa.RSAPublicKey], dict[str, rsa.RSAPublicKey]]:
    """The encryption keys of the active members who share the ledger secret, and of those who own it.

    Raises:
        FormatError: a key is no RSA key in PEM.
    """
    keys: dict[str, dict[str, rsa.RSAPublicKey]] = {"Participant": {}, "Owner": {}}
    for each in members(transaction):
        if each.active and each.encryption_key is not None and each.recovery_role in keys:
            keys[each.recovery_role][each.id] = rsa_key(each.encryption_key, f"member {each.id}")
    return keys["Participant"], keys["Owner"]


def rsa_key(pem: bytes, what: str) -> rsa.RSAPublicKey:
    """Read a member's encryption key.

    Raises:
        FormatError: not PEM of an RSA key of 2,048 to 16,384 bits, or one that encrypts nothing.
    """
    try:
        key = serialization.load_pem_public_key(pem)
        if isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= MOST_BITS:
            encrypt_share(_TRIAL, key)
            return key
    except NOT_READABLE:
        pass
    raise FormatError(f"{what}: want an RSA key of 2048 to {MOST_BITS} bits in PEM, got something else")


def certificate_id(pem: bytes, what: str) -> str:
    """The id of a certificate's owner: SHA-256 of its DER, in hexadecimal.

    Raises:
        FormatError: not one certificate in PEM.
    """
    return sha256(load_certificate(pem, what).public_bytes(serialization.Encoding.DER)).hex()


def load_certificate(pem: bytes, what: str) -> x509.Certificate:
    """Read one certificate.

    Raises:
        FormatError: not one certificate in PEM, or its key is of a kind that nobody reads.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.public_key()
    except NOT_READABLE:
        raise FormatError(f"{what}: is not a certificate in PEM", code="bad_encoding") from None
    return certificate


def service_info(transaction: Transaction) -> dict[str, Any]:
    """The service's status and certificate.

    Raises:
        InternalError: the ledger has no genesis.
    """
    return _only(transaction, tables.SERVICE_INFO)


def service_config(transaction: Transaction) -> dict[str, Any]:
    """The service's configuration, as ``recovery_threshold``.

    Raises:
        InternalError: the ledger has no genesis.
    """
    return _only(transaction, tables.SERVICE_CONFIG)


def unsigned_keys(
    changes: Mapping[bytes, bytes | None],
    keys: Callable[[bytes], bytes | None],
    issuers: Callable[[bytes], bytes | None],
) -> Iterator[str]:
    """The issuers whose keys for tokens a node may not change by itself: all but those that it refreshes.

    Args:
        changes: of :data:`tables.JWT_KEYS`.
        keys: that table before.
        issuers: :data:`tables.JWT_ISSUERS`.

    Raises:
        FormatError: a value is not what these tables hold.
    """
    for key, value in changes.items():
        before, after = (_keys(each) for each in (keys(key), value))
        for entry in [each for each in before if each not in after] + [
            each for each in after if each not in before
        ]:
            issuer = str(entry.get("issuer"))
            found = issuers(issuer.encode())
            if found is None or read_object(found, tables.JWT_ISSUERS).get("auto_refresh") is not True:
                yield issuer


def _keys(data: bytes | None) -> list[dict[str, Any]]:
    found = [] if data is None else read_json(data, tables.JWT_KEYS)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise FormatError(f"{tables.JWT_KEYS}: want a list of keys, got something else")
    return found


def _only(transaction: Transaction, table: str) -> dict[str, Any]:
    if (data := transaction.get(table, tables.ONLY)) is None:
        raise InternalError(f"table {table}: is empty, and every ledger's first entry fills it")
    return read_object(data, table)
