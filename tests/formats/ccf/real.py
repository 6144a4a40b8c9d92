"""Ledgers that others wrote, and their known properties."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kluis.formats.ccf.chunk import Chunk, ChunkName
from tests.vectors import MISSING, VECTORS

CCF = VECTORS / "ccf"
FOLDERS = {
    "acme": CCF / "real" / "acme" / "ledger",
    "flipflop": CCF / "real" / "flipflop" / "ledger",
    "double_sealed": CCF / "real" / "dr_double_sealed" / "ledger",
    "poc_dual": CCF / "poc_dual" / "ledger",
}
ENTRIES = {"acme": 22, "flipflop": 46, "double_sealed": 509, "poc_dual": 17}
needed = pytest.mark.skipif(not CCF.is_dir(), reason=MISSING)


def files(name: str) -> list[tuple[str, bytes]]:
    """The names and bytes of a ledger's files, in their order."""
    found = sorted(FOLDERS[name].iterdir(), key=lambda path: ChunkName.parse(path.name).first)
    return [(path.name, path.read_bytes()) for path in found]


def entries(name: str) -> Iterator[bytes]:
    """The bytes of every entry."""
    for what, data in files(name):
        yield from Chunk.parse(data, what).entries()


def answers() -> dict[str, Any]:
    """What was computed from ``flipflop`` by other programs."""
    known: dict[str, Any] = json.loads((CCF / "kat_flipflop.json").read_text(encoding="utf-8"))
    return known
