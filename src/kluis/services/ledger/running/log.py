"""A node's end of its log: appends that are fenced, and reads that are held against the tree.

The host keeps ciphertext, and may lose, swap, repeat or withhold it. What it gives back is hashed and
compared with the leaf that the node has; what it lost is refused, since a witness remembers how far the
ledger came.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from kluis.enclave.app import Enclave
from kluis.errors import AuthenticityError, FormatError, UnavailableError
from kluis.formats.ccf.domain import PublicDomain, Writes
from kluis.formats.ccf.entry import Entry, leaf_of, size_at, write_set_digest
from kluis.formats.ccf.txid import TxId
from kluis.ledger.merkle import Tree
from kluis.services.ledger.running import quick

APPEND_SECONDS: Final = 60.0
READ_SECONDS: Final = 30.0


class HostLog(Protocol):
    """What a host does for a ledger."""

    def head(self) -> bytes:
        """The head, 40 bytes: the last seqno, and SHA-256 of that entry; zeros if there is none."""
        ...

    def append(self, previous: bytes, batch: bytes) -> str:
        """Append entries: ``ok``, ``fenced`` if the head is another, or ``unknown``."""
        ...

    async def append_async(self, previous: bytes, batch: bytes) -> str:
        """Likewise, from a coroutine: its event loop goes on until the host answers."""
        ...

    def read(self, first: int, most: int) -> bytes:
        """Entries from ``first`` on, back to back; empty if there is none."""
        ...

    def read_each(self, seqnos: list[int]) -> list[bytes]:
        """The entries of these seqnos, 1 to 8 of them; an empty one if it is not there."""
        ...

    async def read_each_async(self, seqnos: list[int]) -> list[bytes]:
        """Likewise, from a coroutine: its event loop goes on until the host answers."""
        ...


class OcallLog:
    """The host's log, through ocalls of an application."""

    def __init__(self, app: Enclave) -> None:
        @app.ocall(timeout_seconds=READ_SECONDS)
        def ledger_head() -> bytes:
            """The head of the log."""
            raise UnavailableError("ledger_head: this host keeps no log")

        @app.ocall(timeout_seconds=APPEND_SECONDS)
        def ledger_append(previous: bytes, batch: bytes) -> str:
            """Append a batch."""
            raise UnavailableError("ledger_append: this host keeps no log")

        @app.ocall(timeout_seconds=READ_SECONDS)
        def ledger_read(first: int, most: int) -> bytes:
            """Read entries."""
            raise UnavailableError("ledger_read: this host keeps no log")

        @app.ocall(timeout_seconds=READ_SECONDS)
        def ledger_read_each(seqnos: list[int]) -> list[bytes]:
            """Read entries that do not follow each other."""
            raise UnavailableError("ledger_read_each: this host keeps no log")

        self._app = app
        self.head: Callable[[], bytes] = ledger_head
        self.append: Callable[[bytes, bytes], str] = ledger_append
        self.read: Callable[[int, int], bytes] = ledger_read
        self.read_each: Callable[[list[int]], list[bytes]] = ledger_read_each

    async def append_async(self, previous: bytes, batch: bytes) -> str:
        """As :meth:`HostLog.append_async`."""
        return await self._app.request(self.append, previous, batch)

    async def read_each_async(self, seqnos: list[int]) -> list[bytes]:
        """As :meth:`HostLog.read_each_async`."""
        return await self._app.request(self.read_each, seqnos)


def declare(app: Enclave) -> OcallLog:
    """Declare a log's ocalls on an application."""
    return OcallLog(app)


def entries_of(data: bytes, first: int) -> list[bytes]:
    """Take apart what a host gave: entries, back to back.

    Raises:
        FormatError: it is something else.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        size = size_at(data, at, f"entries from {first} on")
        entries.append(data[at : at + size])
        at += size
    return entries


class Part(NamedTuple):
    """An entry, taken apart.

    Attributes:
        txid: of the entry.
        leaf: 32 bytes.
        claims_digest: of its leaf, 32 bytes; None where its form has none.
        write_set: its write-set digest, 32 bytes.
        writes: of its public tables.
        tag: of its private tables, 16 bytes.
        iv: 12 bytes.
        public: its public domain, encoded.
        private: its private domain, encrypted.
    """

    txid: TxId
    leaf: bytes
    claims_digest: bytes | None
    write_set: bytes
    writes: Writes
    tag: bytes
    iv: bytes
    public: bytes
    private: bytes

    @classmethod
    def read(cls, raw: bytes, what: str) -> Part:
        """Take an entry apart.

        Raises:
            FormatError: it is not one entry, or has another seqno outside than inside.
        """
        entry = Entry.parse(raw, what)
        domain = PublicDomain.parse(entry.public, what)
        if entry.seqno != domain.seqno:
            raise FormatError(f"{what}.public domain.seqno: want {entry.seqno}, got {domain.seqno}")
        write_set, claims = write_set_digest(raw), domain.claims_digest
        leaf = leaf_of(write_set, domain.evidence_digest, claims)
        txid = TxId(entry.view, entry.seqno)
        return cls(
            txid, leaf, claims, write_set, domain.writes, entry.tag, entry.iv, entry.public, entry.private
        )

    @classmethod
    def check(cls, raw: bytes, seqno: int, tree: Tree) -> Part:
        """Hold an entry against its leaf.

        Raises:
            AuthenticityError: it is another.
        """
        what = f"entry {seqno}"
        try:
            part = cls._read_quickly(raw, seqno) or cls.read(raw, what)
        except FormatError:
            raise AuthenticityError(f"{what}: the host gave something else", code="ledger_leaf") from None
        if part.leaf != tree.leaf(seqno):
            raise AuthenticityError(f"{what}: the host gave another entry", code="ledger_leaf")
        return part

    @classmethod
    def _read_quickly(cls, raw: bytes, seqno: int) -> Part | None:
        found = quick.read(raw, seqno)
        if found is None:
            return None
        view, sealed, public, iv, leaf, write_set = found
        claims = public[quick.CLAIMS]
        return cls(TxId(view, seqno), leaf, claims, write_set, {}, sealed[-16:], iv, public, sealed[:-16])


def read_entries(log: HostLog, seqno: int, most: int) -> list[bytes]:
    """Read entries from a seqno on: that one, and as many more as ``most`` bytes hold.

    Raises:
        UnavailableError: the host does not give them.
        AuthenticityError: it gives something else.
    """
    return _divide(log.read(seqno, most), seqno)


async def read_each(log: HostLog, *seqnos: int) -> list[bytes]:
    """Read some entries, in one call of the host.

    Raises:
        UnavailableError: the host does not give them.
        AuthenticityError: it gives something else.
    """
    raw = await log.read_each_async(list(seqnos))
    if len(raw) != len(seqnos):
        raise AuthenticityError(f"entry {seqnos[0]}: the host gave something else", code="ledger_leaf")
    return [_divide(one, at)[0] for one, at in zip(raw, seqnos, strict=True)]


def _divide(raw: bytes, seqno: int) -> list[bytes]:
    if not raw:
        raise UnavailableError(f"entry {seqno}: the host does not have it", code="ledger_missing")
    try:
        return entries_of(raw, seqno)
    except FormatError:
        raise AuthenticityError(f"entry {seqno}: the host gave something else", code="ledger_leaf") from None
