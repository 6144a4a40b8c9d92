"""Benchmarks, scripts, fuzz targets and examples: what they import of Kluis is there."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("bench", "scripts", "fuzz", "examples")
    for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("file", FILES)
def test_what_it_imports_is_there(file: str) -> None:
    """No types are checked there: a name that moved would be missed first when somebody runs it."""
    tree = ast.parse((ROOT / file).read_bytes())
    named = [
        (node.module, name.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module is not None and not node.level
        for name in node.names
    ]
    named += [
        (name.name, "") for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    ]
    ours = [(module, name) for module, name in named if module.split(".")[0] == "kluis"]
    assert [f"{module}.{name}" for module, name in ours if not _is_there(module, name)] == []


def _is_there(module: str, name: str) -> bool:
    try:
        found = importlib.import_module(module)
        return not name or hasattr(found, name) or importlib.import_module(f"{module}.{name}") is not None
    except ModuleNotFoundError:
        return False
