"""A snapshot of a ledger's tables at one entry, and the receipt that was appended to its file.

One entry whose view has its top bit set. Its public domain:

    type u8, 1; seqno i64; i64 0; hash u64 32 and 32 bytes; views u64 size and u64 each; tables
    table     name, version u64, size u64, pairs
    pair      key u64 size and bytes, to a multiple of 8; value likewise, its first 8 bytes a version i64

A value whose version is negative was removed. The private domain has tables in the same form, encrypted.

Spec: CCF, "Snapshots"; ``src/kv/kv_serialiser.h``, ``src/ds/champ_map.h``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, Self

from kluis.errors import FormatError
from kluis.formats.ccf.cose_receipt import CoseReceipt
from kluis.formats.ccf.domain import Kind, read_name, read_seqno
from kluis.formats.ccf.entry import HEADER, SNAPSHOT_VIEW, Entry, read_header
from kluis.formats.ccf.receipt import Receipt
from kluis.formats.encoding.reader import Reader
from kluis.frozen import frozen
from kluis.hashes import sha256

MAX_VIEWS: Final = 1 << 20
_COSE: Final = b"\xd2"
_NAME: Final = re.compile(r"snapshot_([1-9][0-9]{0,18})_([1-9][0-9]{0,18})(\.committed)?")


class Value(NamedTuple):
    """The value of a key in a snapshot.

    Attributes:
        version: seqno of the entry that wrote it; negative if it was removed.
        value: bytes.
    """

    version: int
    value: bytes


class Table(NamedTuple):
    """A table in a snapshot.

    Attributes:
        version: of the table.
        rows: by key, in the order of the file.
    """

    version: int
    rows: Mapping[bytes, Value]

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None if it has none, or was removed."""
        value = self.rows.get(key)
        return None if value is None or value.version < 0 else value.value


@frozen
class SnapshotName:
    """What a snapshot's name states.

    Attributes:
        seqno: of the entry whose state it has.
        evidence: of the entry that holds its digest.
        committed: whether that entry is committed, and the receipt appended.
    """

    seqno: int
    evidence: int
    committed: bool

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read the name of a file.

        Raises:
            FormatError: no snapshot has this name.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise FormatError(f"{name!a:.80}: no snapshot has this name", code="bad_encoding")
        return cls(int(match[1]), int(match[2]), match[3] is not None)

    def __str__(self) -> str:
        return f"snapshot_{self.seqno}_{self.evidence}{'.committed' if self.committed else ''}"


@frozen(kw_only=True)
class Snapshot:
    """A snapshot. Nothing here is verified.

    Attributes:
        seqno: of the entry whose state it has.
        root: 32 bytes, of the tree at that entry.
        views: the first seqno of each view, from view 1 on.
        tables: the public ones, by name.
        tag: 16 bytes of GCM.
        view: of the IV, its top bit set.
        private: ciphertext of the private tables.
        appended: bytes of the receipt; empty if there is none yet.
    """

    seqno: int
    root: bytes
    views: tuple[int, ...]
    tables: Mapping[str, Table]
    tag: bytes
    view: int = SNAPSHOT_VIEW
    private: bytes = b""
    appended: bytes = b""

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Read a snapshot's file.

        Raises:
            FormatError: anything else.
        """
        end = HEADER + read_header(Reader(data[:HEADER], what))
        if end > len(data):
            raise FormatError(f"{what} at 0x8: needs {end - 8} bytes, {len(data) - 8} left", code="truncated")
        entry = Entry.parse(data[:end], what, snapshot=True)
        reader = Reader(entry.public, f"{what}.public domain", 44)
        if (number := reader.u8("type")) != Kind.SNAPSHOT:
            raise FormatError(f"{what}.type at 0x2c: want 1, got {number}", code="bad_type")
        seqno = read_seqno(reader, "seqno")
        reader.zeros(8, "max_conflict_version")
        root = reader.take(_read_size(reader, "hash", 32), "hash")
        size = reader.u64("views")
        if size % 8 or size > 8 * MAX_VIEWS:
            raise FormatError(f"{what}.views: want whole numbers, got {size} bytes", code="bad_length")
        views = tuple([reader.u64("view") for _ in range(size // 8)])
        if entry.seqno != seqno or entry.flags:
            raise FormatError(
                f"{what}: want seqno {seqno} and no flags, got {entry.seqno}", code="bad_encoding"
            )
        _receipt(data[end:], f"{what}.receipt")
        return cls(
            seqno=seqno,
            root=root,
            views=views,
            tables=_tables(reader),
            tag=entry.tag,
            view=entry.view,
            private=entry.private,
            appended=data[end:],
        )

    @property
    def receipt(self) -> Receipt | CoseReceipt | None:
        """The receipt of the entry that holds the digest; None if there is none yet."""
        return _receipt(self.appended, "snapshot.receipt")

    @property
    def entry(self) -> bytes:
        """The bytes that its digest covers: all but the receipt."""
        views = b"".join(map(_u64, self.views))
        public = b"".join(
            (
                bytes((Kind.SNAPSHOT,)),
                _u64(self.seqno),
                bytes(8),
                _u64(len(self.root)),
                self.root,
                _u64(len(views)),
                views,
                *(_record(name, table) for name, table in self.tables.items()),
            )
        )
        return Entry(
            tag=self.tag, seqno=self.seqno, view=self.view, public=public, private=self.private
        ).encode()

    @property
    def digest(self) -> bytes:
        """SHA-256 of the entry, 32 bytes: the claims digest of the entry that holds the evidence."""
        return sha256(self.entry)

    def encode(self) -> bytes:
        """Write the file: the bytes it was read from."""
        return self.entry + self.appended


def _record(name: str, table: Table) -> bytes:
    raw = name.encode()
    rows = b"".join(
        [
            _pad(key) + _pad(value.version.to_bytes(8, "little", signed=True) + value.value)
            for key, value in table.rows.items()
        ]
    )
    return b"".join((_u64(len(raw)), raw, _u64(table.version), _u64(len(rows)), rows))


def _pad(data: bytes) -> bytes:
    return _u64(len(data)) + data + bytes(-len(data) % 8)


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "little")


def _receipt(raw: bytes, what: str) -> Receipt | CoseReceipt | None:
    if not raw:
        return None
    return CoseReceipt.parse(raw, what) if raw[:1] == _COSE else Receipt.parse(raw, what)


def _read_size(reader: Reader, field: str, want: int) -> int:
    size = reader.u64(field)
    if size != want:
        raise FormatError(f"{reader.what}.{field}: want {want} bytes, got {size}", code="bad_length")
    return size


def _tables(reader: Reader) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    while reader.left:
        name = read_name(reader)
        if name in tables:
            raise FormatError(f"{reader.what}.{name}: occurs twice", code="duplicate_key")
        version, rows = reader.u64("version"), dict[bytes, Value]()
        pairs = reader.sub(reader.u64("size"), name)
        while pairs.left:
            key = _read_padded(pairs, "key")
            value = _read_padded(pairs, "value")
            if len(value) < 8:
                raise FormatError(f"{pairs.what}.value: want a version before it", code="bad_length")
            if key in rows:
                raise FormatError(f"{pairs.what}: a key occurs twice", code="duplicate_key")
            rows[key] = Value(int.from_bytes(value[:8], "little", signed=True), value[8:])
        tables[name] = Table(version, rows)
    return tables


def _read_padded(reader: Reader, field: str) -> bytes:
    data = reader.take(reader.u64(field), field)
    reader.zeros(-len(data) % 8, "padding")
    return data
