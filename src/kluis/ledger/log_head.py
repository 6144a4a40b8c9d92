"""The head of a log: what its node and its host compare before each append."""

from __future__ import annotations

from typing import Final

from kluis.hashes import sha256

EMPTY: Final = bytes(40)
"""The head of a log without an entry."""
MOST_READ: Final = 4 << 20
"""Bytes of entries that a host gives at once, unless the first one has more."""


def head_of(seqno: int, entry: bytes) -> bytes:
    """The head of a log, 40 bytes: its last seqno, and SHA-256 of that entry."""
    return seqno.to_bytes(8, "big") + sha256(entry)
