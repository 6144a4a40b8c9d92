"""Recorded evidence: where it is, and its parts, checked against what was recorded of them."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from kluis.hashes import sha256

ROOT = Path(__file__).resolve().parents[1]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))
MISSING = f"no vectors in {VECTORS}: set KLUIS_VECTORS"


class Vector:
    """One recorded piece of evidence: its parts, and what is known and expected of it."""

    def __init__(self, path: Path) -> None:
        self.meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.folder = path.parent
        self.name = path.parent.name
        self.expected: dict[str, Any] = self.meta["expected"]
        self.known: dict[str, Any] = self.meta.get("known", {})

    def __contains__(self, role: str) -> bool:
        return role in self.meta["files"]

    @property
    def outcome(self) -> str:
        return str(self.expected["outcome"])

    @property
    def now(self) -> datetime:
        """The time to verify at."""
        return datetime.fromisoformat(self.meta["verify_time"])

    def part(self, role: str) -> bytes:
        """The bytes of a part, which must be the recorded ones."""
        recorded = self.meta["files"][role]
        data = (self.folder / recorded["file"]).read_bytes()
        assert sha256(data).hex() == recorded["sha256"]
        return data


def found(tee: str) -> list[Vector]:
    """Every vector of a kind of evidence; none where there are no vectors."""
    return [Vector(path) for path in sorted((VECTORS / tee).glob("*/meta.json"))]
