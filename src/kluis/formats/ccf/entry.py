"""One entry of a ledger: a header, a tag and IV, a public domain in plain, a private one encrypted.

    0   u8   version, 1
    1   u8   flags
    2   u48  size of all that follows
    8   16   tag of AES-256-GCM over the private domain, with the public domain as additional data
    24  12   IV: seqno u64, view u32
    36  u64  size of the public domain
    44       public domain, then the private domain's ciphertext

Spec: CCF, "Ledger", "Transaction Format"; CCF, ``src/kv/serialised_entry_format.h``.
"""

from __future__ import annotations

from typing import Final, Self

from kluis.errors import FormatError, UsageError
from kluis.formats.encoding.reader import Reader
from kluis.frozen import frozen
from kluis.hashes import sha256

VERSION: Final = 1
CHUNK_AFTER: Final = 0x01
CHUNK_BEFORE: Final = 0x02
FLAGS: Final = CHUNK_AFTER | CHUNK_BEFORE
HEADER: Final = 8
LEAST_SIZE: Final = 36
MAX_SIZE: Final = 1 << 30
MAX_VIEW: Final = (1 << 31) - 1
SNAPSHOT_VIEW: Final = 1 << 31
_PLAIN: Final = bytes((VERSION, 0))


@frozen(kw_only=True)
class Entry:
    """One entry, its domains not taken apart.

    Attributes:
        flags: ``CHUNK_AFTER``, ``CHUNK_BEFORE``, both or 0.
        tag: 16 bytes of GCM.
        seqno: of the IV.
        view: of the IV, 0..2^31-1; a snapshot's has its top bit set.
        public: the public domain's bytes.
        private: the private domain's ciphertext; may be empty.
    """

    flags: int = 0
    tag: bytes
    seqno: int
    view: int
    public: bytes
    private: bytes

    @classmethod
    def parse(cls, data: bytes, what: str, *, base: int = 0, snapshot: bool = False) -> Self:
        """Read one entry.

        Args:
            data: exactly one.
            what: for messages.
            base: its offset in what the caller reads, for messages.
            snapshot: whether it is a snapshot's, whose view has its top bit set.

        Raises:
            FormatError: anything else.
        """
        reader = Reader(data, what, base)
        size = read_header(reader)
        if size != reader.left:
            raise FormatError(
                f"{what}.size at {base + 2:#x}: want {reader.left}, got {size}",
                code="truncated" if size > reader.left else "trailing_data",
            )
        tag = reader.take(16, "tag")
        seqno, view = reader.u64("seqno"), reader.u32("view")
        if bool(view & SNAPSHOT_VIEW) != snapshot:
            raise FormatError(f"{what}.view at {base + 32:#x}: is {view}", code="bad_encoding")
        public = reader.take(reader.u64("public domain"), "public domain")
        return cls(
            flags=data[1],
            tag=tag,
            seqno=seqno,
            view=view,
            public=public,
            private=reader.take(reader.left, "private domain"),
        )

    @property
    def iv(self) -> bytes:
        """12 bytes: the nonce of AES-GCM."""
        return self.seqno.to_bytes(8, "little") + self.view.to_bytes(4, "little")

    def encode(self) -> bytes:
        """Write the entry: the bytes it was read from.

        Raises:
            UsageError: a field does not fit.
        """
        if len(self.tag) != 16 or self.flags & ~FLAGS:
            raise UsageError("entry: want a tag of 16 bytes and known flags, got something else")
        size = LEAST_SIZE + len(self.public) + len(self.private)
        if size > MAX_SIZE:
            raise UsageError(f"entry: want at most {MAX_SIZE} bytes, got {size}")
        head = bytes((VERSION, self.flags)) + size.to_bytes(6, "little")
        public_size = len(self.public).to_bytes(8, "little")
        return b"".join((head, self.tag, self.iv, public_size, self.public, self.private))


def read_header(reader: Reader) -> int:
    """Read an entry's first 8 bytes; gives the size of what follows.

    Raises:
        FormatError: another version, unknown flags, or a size that no entry has.
    """
    version, flags = reader.u8("version"), reader.u8("flags")
    size = int.from_bytes(reader.take(6, "size"), "little")
    if version != VERSION:
        raise FormatError(f"{reader.what}.version: want {VERSION}, got {version}", code="bad_type")
    if flags & ~FLAGS:
        raise FormatError(f"{reader.what}.flags: want 0 to {FLAGS}, got {flags}", code="bad_encoding")
    if not LEAST_SIZE <= size <= MAX_SIZE:
        raise FormatError(
            f"{reader.what}.size: want {LEAST_SIZE} to {MAX_SIZE}, got {size}",
            code="bad_length" if size < LEAST_SIZE else "too_large",
        )
    return size


def size_at(data: bytes, at: int, what: str) -> int:
    """The size of the entry that begins at an offset, its header included.

    Args:
        data: entries, back to back.
        at: where it begins.
        what: what they claim to be, for messages.

    Raises:
        FormatError: no entry begins there, or less than all of it is left.
    """
    end = at + HEADER
    size = HEADER + int.from_bytes(data[at + 2 : end], "little")
    if data[at : at + 2] != _PLAIN or not LEAST_SIZE + HEADER <= size <= MAX_SIZE:
        size = HEADER + read_header(Reader(data[at:end], what, at))
    if at + size > len(data):
        raise FormatError(f"{what} at {at:#x}: needs {size} bytes, {len(data) - at} left", code="truncated")
    return size


def write_set_digest(entry: bytes) -> bytes:
    """SHA-256 of an entry's bytes, header included: 32 bytes."""
    return sha256(entry)


def leaf_of(write_set: bytes, evidence_digest: bytes | None, claims_digest: bytes | None) -> bytes:
    """An entry's leaf in the ledger's tree, 32 bytes.

    Args:
        write_set: its write-set digest, 32 bytes.
        evidence_digest: SHA-256 of its commit evidence, 32 bytes; None for an entry of an older kind.
        claims_digest: 32 bytes, zeros for no claims; None for an entry of an older kind.
    """
    if evidence_digest is None and claims_digest is None:
        return write_set
    return sha256(write_set + (evidence_digest or b"") + (claims_digest or b""))
