"""Everything derived from a store's key: ids, sealed records, the journal's chain, and the set hash of all
records.

From the 32-byte storage key, HKDF-SHA-256 derives one key for each purpose: ``id`` (HMAC over table and key),
``set`` and ``chain`` (HMAC). For sealing there is one AES-256-GCM key for each purpose and 2^20 epochs, so
that random nonces stay far below the limit of SP 800-38D. Associated data identify a sealed value:

| sealed        | associated data                                                     |
|---------------|---------------------------------------------------------------------|
| value, label  | format (1) || ``value`` or ``label`` || id (32) || version (24)     |
| journal entry | format (1) || ``entry`` || epoch (8) || chain before it (32)        |
| head          | format (1) || ``head`` || epoch (8)                                 |

A version is the epoch (8, big-endian) and 16 random bytes of the commit: two commits that a forking host
received for one epoch have two versions. Spec: RFC 5869, RFC 2104, NIST SP 800-38D.
"""

from __future__ import annotations

import hmac
import os
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from kluis.enclave.store.records import SEALING_BYTES
from kluis.errors import AuthenticityError, UsageError

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
GENESIS: Final = bytes(32)
"""The chain before the first commit."""
FORMAT: Final = b"\x01"
BLOCK_BITS: Final = 20
MAX_SEALERS: Final = 64


class HeadContent(msgspec.Struct, array_like=True, frozen=True):
    """The content of a head: the set hash of all records and the journal's chain, after its commit."""

    records: bytes
    chain: bytes


class Change(msgspec.Struct, array_like=True, frozen=True):
    """A record that a commit put or deleted."""

    table: str
    key: str
    index: str
    deleted: bool


class EntryContent(msgspec.Struct, array_like=True, frozen=True):
    """The content of a journal entry: its commit's version, and every change."""

    version: bytes
    changes: list[Change]


class Label(msgspec.Struct, array_like=True, frozen=True):
    """A record's names."""

    table: str
    key: str
    index: str


def make_version(epoch: int) -> bytes:
    """A unique version for a commit: 24 bytes."""
    return epoch.to_bytes(8, "big") + os.urandom(16)


def epoch_of(version: bytes) -> int:
    """The epoch of the commit with ``version`` (24 bytes)."""
    return int.from_bytes(version[:8], "big")


class Cipher:
    """Everything that needs the key.

    Args:
        key: 32 bytes, secret and random.

    Raises:
        UsageError: another length.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise UsageError(f"storage key: want {KEY_BYTES} bytes, got {len(key)}")
        self._key = key
        self._id_key = self._derive(b"id")
        self._set_key = self._derive(b"set")
        self._chain_key = self._derive(b"chain")
        self._sealers: dict[tuple[bytes, int], AESGCM] = {}

    def __repr__(self) -> str:
        return "<Cipher>"

    def name(self) -> bytes:
        """A public name of the key, 32 bytes, that reveals nothing about it."""
        return self._derive(b"name")

    def id(self, table: str, key: str) -> bytes:
        """The host's identifier of a record, 32 bytes."""
        named = table.encode()
        return hmac.digest(self._id_key, len(named).to_bytes(2, "big") + named + key.encode(), "sha256")

    def member(self, record: bytes, version: bytes) -> int:
        """A record's part of the set hash: 256 bits, added and removed by exclusive or."""
        return int.from_bytes(hmac.digest(self._set_key, record + version, "sha256"), "big")

    def link(self, chain: bytes, entry: bytes) -> bytes:
        """The chain after a sealed journal entry, 32 bytes."""
        return hmac.digest(self._chain_key, chain + entry, "sha256")

    def seal_value(self, record: bytes, version: bytes, value: bytes) -> bytes:
        """Seal a record's value."""
        return self._seal(b"value", epoch_of(version), record + version, value)

    def open_value(self, record: bytes, version: bytes, sealed: bytes) -> bytes:
        """Open a value; AuthenticityError if it is not that of this record and version."""
        return self._open(b"value", epoch_of(version), record + version, sealed, "record")

    def seal_label(self, record: bytes, version: bytes, label: Label) -> bytes:
        """Seal a record's names."""
        return self._seal(b"label", epoch_of(version), record + version, _encode(label))

    def open_label(self, record: bytes, version: bytes, sealed: bytes) -> Label:
        """Open a record's names; raises the errors of :meth:`open_value`."""
        return _label(self._open(b"label", epoch_of(version), record + version, sealed, "record"))

    def seal_entry(self, epoch: int, chain: bytes, entry: EntryContent) -> bytes:
        """Seal the journal entry that follows ``chain``."""
        return self._seal(b"entry", epoch, epoch.to_bytes(8, "big") + chain, _encode(entry))

    def open_entry(self, epoch: int, chain: bytes, sealed: bytes) -> EntryContent:
        """Open a journal entry; AuthenticityError if it is not that of ``epoch`` after ``chain``."""
        try:
            plain = self._open(b"entry", epoch, epoch.to_bytes(8, "big") + chain, sealed, "journal")
        except AuthenticityError:
            raise AuthenticityError(
                f"store: journal entry {epoch}: does not follow what this enclave has seen",
                hint="the host changed it, left one out, or shows its enclaves different histories",
                code="store_history",
            ) from None
        return _entry(plain)

    def seal_head(self, epoch: int, head: HeadContent) -> bytes:
        """Seal the head of ``epoch``."""
        return self._seal(b"head", epoch, epoch.to_bytes(8, "big"), _encode(head))

    def open_head(self, epoch: int, sealed: bytes) -> HeadContent:
        """Open a head; AuthenticityError if it is not of ``epoch`` and this key."""
        return _head(self._open(b"head", epoch, epoch.to_bytes(8, "big"), sealed, f"head of epoch {epoch}"))

    def _derive(self, purpose: bytes) -> bytes:
        return HKDFExpand(SHA256(), KEY_BYTES, b"kluis store 1 " + purpose).derive(self._key)

    def _sealer(self, purpose: bytes, epoch: int) -> AESGCM:
        which = (purpose, epoch >> BLOCK_BITS)
        sealer = self._sealers.get(which)
        if sealer is None:
            sealer = AESGCM(self._derive(purpose + b" " + which[1].to_bytes(8, "big")))
            if len(self._sealers) >= MAX_SEALERS:
                self._sealers = {}
            self._sealers[which] = sealer
        return sealer

    def _seal(self, purpose: bytes, epoch: int, about: bytes, plain: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._sealer(purpose, epoch).encrypt(nonce, plain, FORMAT + purpose + about)

    def _open(self, purpose: bytes, epoch: int, about: bytes, sealed: bytes, what: str) -> bytes:
        try:
            if len(sealed) < SEALING_BYTES:
                raise InvalidTag
            return self._sealer(purpose, epoch).decrypt(
                sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], FORMAT + purpose + about
            )
        except InvalidTag:
            raise AuthenticityError(
                f"store: {what}: is not what this store's enclaves wrote",
                hint="the host changed it, or it is another store's",
                code="store_record",
            ) from None


_encode = msgspec.msgpack.Encoder().encode
_label = msgspec.msgpack.Decoder(Label).decode
_entry = msgspec.msgpack.Decoder(EntryContent).decode
_head = msgspec.msgpack.Decoder(HeadContent).decode
