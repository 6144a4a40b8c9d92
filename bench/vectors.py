"""Provide evidence for rows: recorded, from ``$KLUIS_VECTORS`` or the folder next to the checkout; or forged.

If nothing is recorded, the forgers of this project's own tests make the evidence. The row states that: forged
evidence has the form and the number of signatures of genuine evidence, but not the size of each part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fuzz.pool import our_tests

if TYPE_CHECKING:
    from tests.evidence.samples import Sample

VECTORS = Path(os.environ.get("KLUIS_VECTORS", Path(__file__).resolve().parents[2] / "shared" / "vectors"))
FORGED: Final = "forged by this project's tests: no recorded evidence in $KLUIS_VECTORS"


def genuine(tee: str, *roles: str) -> list[tuple[dict[str, Any], dict[str, bytes]]]:
    """A record of a valid piece of evidence of a TEE, with a file for each role: its facts, and its files by
    role.
    """
    found = []
    for path in (VECTORS / tee).glob("*/meta.json"):
        meta = json.loads(path.read_text(encoding="utf-8"))
        files = meta["files"]
        if meta["expected"]["outcome"] == "valid" and files.keys() >= set(roles):
            found.append((meta, {role: (path.parent / files[role]["file"]).read_bytes() for role in files}))
    return found


def forged(kind: str) -> Sample:
    """Evidence of a kind, such as ``amd.snp``, with everything needed to verify it."""
    our_tests()
    from tests.evidence.samples import sample

    return sample(kind)


def origin(is_forged: bool) -> Callable[[], dict[str, str]]:
    """A row's statement about the origin of its evidence."""
    return lambda: {"evidence": FORGED} if is_forged else {}
