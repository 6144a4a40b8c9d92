"""Benchmarks, scripts, fuzz targets and examples: what they import of Kluis, and reach by that, is there."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.meta.tree import ROOT

FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("bench", "scripts", "fuzz", "examples")
    for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("file", FILES)
def test_what_it_names_is_there(file: str) -> None:
    """No types are checked there: a name that moved would be missed first when somebody runs it."""
    tree = ast.parse((ROOT / file).read_bytes())
    imported = [(name, module, member, _found(module, member)) for name, module, member in _imported(tree)]
    assert [f"{module}.{member}" for _, module, member, found in imported if found is None] == []
    known = {name: found for name, _, _, found in imported}
    reached = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert [ast.unparse(node) for node in reached if not _has(_value(node.value, known), node.attr)] == []


@pytest.mark.parametrize(
    ("words", "status", "seen"),
    [
        (["--help"], 0, "usage: scripts/dist.py [-h] out [PYTHON ...]"),
        ([], 2, "the following arguments are required: out"),
        (["out", "3.12"], 2, "PYTHON: want 3.11 or 3.13, got 3.12"),
    ],
)
def test_a_line_that_builds_no_distributions(
    tmp_path: Path, words: list[str], status: int, seen: str
) -> None:
    """The script answers at once, and makes nothing."""
    line = [sys.executable, str(ROOT / "scripts/dist.py"), *words]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, seen in done.stdout + done.stderr) == (status, True)
    assert list(tmp_path.iterdir()) == []


def _imported(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """What is imported of Kluis: what the file calls it, its module, and which of its names it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            if module.split(".")[0] == "kluis":
                yield from ((each.asname or each.name, module, each.name) for each in node.names)
        elif isinstance(node, ast.Import):
            for each in (each for each in node.names if each.name.split(".")[0] == "kluis"):
                yield each.asname or each.name, each.name, ""
                if each.asname is None:  # then the file names the first package, and reaches it by that
                    yield "kluis", "kluis", ""


def _found(module: str, member: str) -> object:
    """What an import gives; None where it fails."""
    try:
        found = importlib.import_module(module)
        if member and not hasattr(found, member):
            return importlib.import_module(f"{module}.{member}")
        return getattr(found, member) if member else found
    except ModuleNotFoundError:
        return None


def _value(node: ast.expr, known: dict[str, object]) -> object:
    """What an expression is, where it is an imported name, or one reached by that; None for all others."""
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, known), node.attr, None)
    return known.get(node.id) if isinstance(node, ast.Name) else None


def _has(value: object, name: str) -> bool:
    """Whether a module or a class has a name; what an object has, it may get later."""
    return not isinstance(value, ModuleType | type) or hasattr(value, name)
