"""What an entry writes: records of maps, and the public domain that holds those that anyone may read.

    public domain   type u8, seqno i64, [claims digest 32], [commit evidence digest 32], i64 0, records
    private domain  records, once decrypted
    record          name, read version u64, reads u64, writes u64 x {key, value}, removals u64 x {key}

Integers are little-endian; a name, key or value follows its length, a u64.

Spec: CCF, "Ledger", "Transaction Format"; CCF, ``src/kv/generic_serialise_wrapper.h``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Self, TypeAlias

from kluis.errors import FormatError, UsageError
from kluis.formats.encoding.reader import Reader
from kluis.frozen import frozen

NO_CLAIMS: Final = bytes(32)
MAX_NAME: Final = 1024
Writes: TypeAlias = Mapping[str, Mapping[bytes, bytes | None]]
NewWrites: TypeAlias = dict[str, dict[bytes, bytes | None]]


class Kind(enum.IntEnum):
    """What an entry commits to in addition to its writes. A current service writes only the last kind."""

    WRITES = 0
    SNAPSHOT = 1
    CLAIMS = 2
    EVIDENCE = 3
    EVIDENCE_AND_CLAIMS = 4

    @property
    def has_claims(self) -> bool:
        """Whether a claims digest follows the seqno."""
        return self in (Kind.CLAIMS, Kind.EVIDENCE_AND_CLAIMS)

    @property
    def has_evidence(self) -> bool:
        """Whether a commit evidence digest follows."""
        return self in (Kind.EVIDENCE, Kind.EVIDENCE_AND_CLAIMS)


_KINDS: Final = {int(kind): kind for kind in Kind}


@frozen(kw_only=True)
class PublicDomain:
    """What anyone can read of an entry.

    Attributes:
        kind: which digests it has; never ``SNAPSHOT``.
        seqno: of the entry, 1..2^63-1.
        claims_digest: 32 bytes, all zero where the application claims nothing; None if the kind has none.
        evidence_digest: 32 bytes, SHA-256 of the commit evidence; None if the kind has none.
        writes: by the name of a map, then by key; None is a removal.
    """

    kind: Kind = Kind.EVIDENCE_AND_CLAIMS
    seqno: int
    claims_digest: bytes | None = NO_CLAIMS
    evidence_digest: bytes | None
    writes: Writes

    @classmethod
    def parse(cls, data: bytes, what: str, base: int = 0) -> Self:
        """Read one public domain.

        Args:
            data: all of it.
            what: for messages.
            base: its offset in what the caller reads, for messages.

        Raises:
            UnsupportedError: of a snapshot.
            FormatError: anything else than one public domain.
        """
        reader = Reader(data, what, base)
        number = reader.u8("type")
        kind = _KINDS.get(number)
        if kind is None or kind is Kind.SNAPSHOT:
            raise FormatError(f"{what}.type at {base:#x}: want 0, 2, 3 or 4, got {number}", code="bad_type")
        seqno = read_seqno(reader, "seqno")
        claims = reader.take(32, "claims_digest") if kind.has_claims else None
        evidence = reader.take(32, "evidence_digest") if kind.has_evidence else None
        reader.zeros(8, "max_conflict_version")
        return cls(
            kind=kind, seqno=seqno, claims_digest=claims, evidence_digest=evidence, writes=read_writes(reader)
        )

    def encode(self) -> bytes:
        """Write the domain: the bytes it was read from.

        Raises:
            UsageError: a digest is missing, too many, or of another size.
        """
        for name, digest, wanted in (
            ("claims_digest", self.claims_digest, self.kind.has_claims),
            ("evidence_digest", self.evidence_digest, self.kind.has_evidence),
        ):
            if (digest is not None) != wanted or (digest is not None and len(digest) != 32):
                raise UsageError(f"public domain.{name}: want {32 if wanted else 'no'} bytes, got {digest!r}")
        return b"".join(
            (
                bytes((self.kind,)),
                self.seqno.to_bytes(8, "little"),
                self.claims_digest or b"",
                self.evidence_digest or b"",
                bytes(8),
                encode_writes(self.writes),
            )
        )


def read_seqno(reader: Reader, field: str) -> int:
    """Read a seqno, an i64.

    Raises:
        FormatError: it is not positive.
    """
    value = reader.u64(field)
    if not 0 < value < 1 << 63:
        raise FormatError(f"{reader.what}.{field}: want 1 to 2^63-1, got {value}", code="bad_encoding")
    return value


def parse_writes(data: bytes, what: str) -> dict[str, dict[bytes, bytes | None]]:
    """Read a private domain, once decrypted: records and nothing else.

    Raises:
        FormatError: anything else.
    """
    return read_writes(Reader(data, what))


def read_writes(reader: Reader) -> dict[str, dict[bytes, bytes | None]]:
    """Read records to the end; writing them in the same order gives the same bytes.

    Raises:
        FormatError: cut short, a map or key twice, or versions and reads, which no ledger has.
    """
    writes: dict[str, dict[bytes, bytes | None]] = {}
    while reader.left:
        name = read_name(reader)
        what = f"{reader.what}.{name}"
        if name in writes:
            raise FormatError(f"{what}: occurs twice", code="duplicate_key")
        reader.zeros(8, "read_version")
        reader.zeros(8, "reads")
        changes: dict[bytes, bytes | None] = {}
        count = reader.u64("writes")
        for _ in range(count):
            key = reader.take(reader.u64("key"), "key")
            changes[key] = reader.take(reader.u64("value"), "value")
        removals = reader.u64("removals")
        for _ in range(removals):
            changes[reader.take(reader.u64("key"), "key")] = None
        if len(changes) != count + removals:
            raise FormatError(f"{what}: a key occurs twice", code="duplicate_key")
        writes[name] = changes
    return writes


def read_name(reader: Reader) -> str:
    """Read the name of a map.

    Raises:
        FormatError: empty, longer than 1,024 bytes, or not UTF-8.
    """
    size = reader.u64("name")
    if not 0 < size <= MAX_NAME:
        raise FormatError(
            f"{reader.what}.name: want 1 to {MAX_NAME} bytes, got {size}",
            code="too_large" if size else "bad_length",
        )
    try:
        return reader.take(size, "name").decode()
    except UnicodeDecodeError:
        raise FormatError(f"{reader.what}.name: is not UTF-8", code="bad_encoding") from None


def encode_writes(writes: Writes) -> bytes:
    """Write records, in the order of the mappings; within a map removals come last."""
    out = bytearray()
    for name, changes in writes.items():
        raw = name.encode()
        removed = [key for key, value in changes.items() if value is None]
        out += len(raw).to_bytes(8, "little") + raw + bytes(16)
        out += (len(changes) - len(removed)).to_bytes(8, "little")
        for key, value in changes.items():
            if value is not None:
                out += len(key).to_bytes(8, "little") + key + len(value).to_bytes(8, "little") + value
        out += len(removed).to_bytes(8, "little")
        for key in removed:
            out += len(key).to_bytes(8, "little") + key
    return bytes(out)
