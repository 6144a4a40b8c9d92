"""Whole chunks, for tests."""

from __future__ import annotations

from collections.abc import Sequence

from kluis.formats.ccf.chunk import START, table_of


def write_chunk(entries: Sequence[bytes], *, complete: bool = True) -> bytes:
    """A chunk of these entries: with its table, or open."""
    body, table = b"".join(entries), table_of([len(entry) for entry in entries])
    if not complete:
        return bytes(START) + body
    return (START + len(body)).to_bytes(START, "little") + body + table
