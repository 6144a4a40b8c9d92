"""The commonest entries of a log, read quickly: private writes only, in the form that a node writes.

This is ``Entry``, ``PublicDomain`` and ``parse_writes`` in one function each, for speed. What does not fit is
left to those, which state what is wrong with it; a test compares both.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from kluis.formats.ccf.domain import MAX_NAME

PUBLIC: Final = 81
"""Bytes of a public domain without records: kind, seqno, two digests, and a version that is always 0."""
START: Final = 44
KIND: Final = b"\x04"
ZEROS: Final = bytes(16)
Writes = dict[str, dict[bytes, bytes | None]]


class Quick(NamedTuple):
    """An entry with private writes only.

    Attributes:
        view: of the entry.
        sealed: ciphertext and tag.
        public: the public domain, 81 bytes.
        iv: 12 bytes.
        leaf: 32 bytes.
    """

    view: int
    sealed: bytes
    public: bytes
    iv: bytes
    leaf: bytes


def read(raw: bytes, seqno: int) -> Quick | None:
    """An entry of a seqno; None where it is of another form."""
    number = seqno.to_bytes(8, "little")
    if (
        raw[:2] != b"\x01\x00"
        or int.from_bytes(raw[2:8], "little") + 8 != len(raw)
        or raw[24:32] != number
        or raw[35] & 0x80
        or raw[36:START] != PUBLIC.to_bytes(8, "little")
        or len(raw) < START + PUBLIC
    ):
        return None
    public = raw[START : START + PUBLIC]
    if public[:1] != KIND or public[1:9] != number or public[73:] != ZEROS[:8]:
        return None
    write_set = hashlib.sha256(raw).digest()
    leaf = hashlib.sha256(write_set + public[41:73] + public[9:41]).digest()
    view = int.from_bytes(raw[32:36], "little")
    return Quick(view, raw[START + PUBLIC :] + raw[8:24], public, raw[24:36], leaf)


def writes(data: bytes) -> Writes | None:
    """The writes of a private domain, once decrypted; None where they are of another form."""
    out: Writes = {}
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
