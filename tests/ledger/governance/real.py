"""Real ledgers of CCF's own tests, entry by entry; see the vectors' README for where they come from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kluis.formats.ccf.chunk import Chunk
from kluis.formats.ccf.domain import PublicDomain, Writes
from kluis.formats.ccf.entry import Entry, leaf_of, write_set_digest
from kluis.ledger.merkle import Tree

ROOT = Path(__file__).parents[3]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors")) / "ccf" / "real"
LEDGERS = ("acme", "flipflop", "dr_double_sealed")
needed = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no ledgers in {VECTORS}: set KLUIS_VECTORS")


class Recorded(NamedTuple):
    """An entry: its seqno, its public writes, and the root over all entries before it."""

    seqno: int
    writes: Writes
    root: bytes


def entries(name: str) -> Iterator[Recorded]:
    """All entries of a ledger, in order."""
    tree = Tree()
    folder = VECTORS / name / "ledger"
    for path in sorted(folder.iterdir(), key=lambda path: int(re.findall(r"\d+", path.name)[0])):
        chunk = Chunk.parse(path.read_bytes(), path.name, torn=not path.name.endswith(".committed"))
        for raw in chunk.entries():
            domain = PublicDomain.parse(Entry.parse(raw, path.name).public, path.name)
            yield Recorded(domain.seqno, domain.writes, tree.root())
            tree.append(leaf_of(write_set_digest(raw), domain.evidence_digest, domain.claims_digest))
