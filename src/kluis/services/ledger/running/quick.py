"""The commonest entries of a log, read quickly: private writes only, in the form that a node writes.

This is ``Entry``, ``PublicDomain`` and ``parse_writes`` in one function each, for speed. What does not fit is
left to those, which state what is wrong with it; a test compares both.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from kluis.formats.ccf.domain import MAX_NAME, NewWrites

DOMAIN: Final = (81).to_bytes(8, "little") + b"\x04"
"""Before the seqno of a public domain without records: its size, and its kind."""
PUBLIC: Final = slice(44, 125)
"""Kind, seqno, two digests, and a version that is always 0."""
CLAIMS: Final = slice(9, 41)
"""The first of the digests, in a public domain."""
START: Final = b"\x01\x00"
ZEROS: Final = bytes(16)


class Quick(NamedTuple):
    """An entry with private writes only.

    Attributes:
        view: of the entry.
        sealed: ciphertext and tag.
        public: the public domain, 81 bytes.
        iv: 12 bytes.
        leaf: 32 bytes.
        write_set: its write-set digest, 32 bytes.
    """

    view: int
    sealed: bytes
    public: bytes
    iv: bytes
    leaf: bytes
    write_set: bytes


def read(raw: bytes, seqno: int) -> Quick | None:
    """An entry of a seqno; None where it is of another form."""
    number, from_bytes, hashed = seqno.to_bytes(8, "little"), int.from_bytes, hashlib.sha256
    if (
        raw[36:53] != DOMAIN + number
        or raw[24:32] != number
        or raw[117:125] != ZEROS[:8]
        or raw[:2] != START
        or raw[35] & 0x80
        or from_bytes(raw[2:8], "little") + 8 != len(raw)
    ):
        return None
    write_set = hashed(raw).digest()
    leaf = hashed(write_set + raw[85:117] + raw[53:85]).digest()
    view = from_bytes(raw[32:36], "little")
    return Quick(view, raw[125:] + raw[8:24], raw[PUBLIC], raw[24:36], leaf, write_set)


class Form:
    """Reads the writes of private domains: one change of the same key as before in one comparison."""

    def __init__(self) -> None:
        self._head, self._table, self._key = b"", "", b""

    def read(self, data: bytes) -> NewWrites | None:
        """As :func:`writes`."""
        if self._head and data.startswith(self._head):
            at = len(self._head) + 8
            end = at + int.from_bytes(data[at - 8 : at], "little")
            if data[end:] == ZEROS[:8]:
                return {self._table: {self._key: data[at:end]}}
        parsed = writes(data)
        if parsed is not None and len(parsed) == 1:
            ((table, changes),) = parsed.items()
            if len(changes) == 1:
                ((key, value),) = changes.items()
                if value is not None:  # its head is all before the value's size; no removals are after it
                    self._head, self._table, self._key = data[: -len(value) - 16], table, key
        return parsed


def writes(data: bytes) -> NewWrites | None:
    """The writes of a private domain, once decrypted; None where they are of another form."""
    out: NewWrites = {}
    at, end, number = 0, len(data), int.from_bytes
    while at < end:
        size = number(data[at : at + 8], "little")
        after = at + 8 + size
        if not 0 < size <= MAX_NAME or data[after : after + 16] != ZEROS:
            return None
        try:
            name = data[at + 8 : after].decode()
        except UnicodeDecodeError:
            return None
        count, at = number(data[after + 16 : after + 24], "little"), after + 24
        if name in out or count > end:
            return None
        changes: dict[bytes, bytes | None] = {}
        for _ in range(count):
            middle = at + 8 + number(data[at : at + 8], "little")
            finish = middle + 8 + number(data[middle : middle + 8], "little")
            if finish > end:
                return None
            changes[data[at + 8 : middle]] = data[middle + 8 : finish]
            at = finish
        removed, at = number(data[at : at + 8], "little"), at + 8
        if removed > end or at > end:
            return None
        for _ in range(removed):
            finish = at + 8 + number(data[at : at + 8], "little")
            if finish > end:
                return None
            changes[data[at + 8 : finish]] = None
            at = finish
        if len(changes) != count + removed:
            return None
        out[name] = changes
    return out
