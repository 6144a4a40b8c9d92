"""Where things are, for the tests about the code itself."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "kluis"
TESTS = ROOT / "tests"
DOCS = ROOT / "docs"


def modules() -> list[Path]:
    """Every module of the package, relative to it; the files of templates are text of other projects."""
    found = (path.relative_to(SRC) for path in SRC.rglob("*.py"))
    return sorted(path for path in found if path.parts[:2] != ("projects", "templates"))


def parse(module: Path) -> ast.Module:
    """The syntax tree of a module given relative to the package."""
    return ast.parse((SRC / module).read_text(encoding="utf-8"))
