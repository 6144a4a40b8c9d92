"""Recorded evidence that rows verify: of ``$KLUIS_VECTORS``, or of the folder beside the checkout."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kluis.errors import UnavailableError

VECTORS = Path(os.environ.get("KLUIS_VECTORS", Path(__file__).resolve().parents[2] / "shared" / "vectors"))


def genuine(tee: str, *roles: str) -> list[tuple[dict[str, Any], dict[str, bytes]]]:
    """What is recorded of a TEE as valid, with a file for each role: its facts, and its files by role.

    Raises:
        UnavailableError: nothing is.
    """
    found = []
    for path in (VECTORS / tee).glob("*/meta.json"):
        meta = json.loads(path.read_text(encoding="utf-8"))
        files = meta["files"]
        if meta["expected"]["outcome"] == "valid" and files.keys() >= set(roles):
            found.append((meta, {role: (path.parent / files[role]["file"]).read_bytes() for role in files}))
    if not found:
        raise UnavailableError(f"bench: nothing recorded of {tee} in {VECTORS}", hint="set KLUIS_VECTORS")
    return found
