"""The public surface: one list of modules, which the reference page shows and the guides and examples use."""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.reference import PUBLIC, REFERENCE
from tests.meta.tree import DOCS, ROOT, modules, parse

BLOCK = re.compile(r"^( *)```python[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])


def _programs() -> Iterator[tuple[str, str]]:
    """Every program of a page or an example, by where it is."""
    for page in PAGES:
        for block in BLOCK.finditer(page.read_text()):
            yield str(page.relative_to(ROOT)), textwrap.dedent(block[2])
    for path in sorted((ROOT / "examples").rglob("*.py")):
        yield str(path.relative_to(ROOT)), path.read_text()


def _imported() -> Iterator[tuple[str, str, str]]:
    """Where, a module of Kluis's, and the name that is imported from it: empty for the module itself."""
    for where, text in _programs():
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Import():
                    for alias in node.names:
                        yield where, alias.name, ""
                case ast.ImportFrom(module=str(module)):
                    for alias in node.names:
                        whole = f"{module}.{alias.name}"
                        yield (where, whole, "") if whole in PUBLIC else (where, module, alias.name)
                case ast.Assign(targets=[ast.Name(id="pytest_plugins")], value=ast.List(elts=names)):
                    for name in names:
                        yield where, ast.literal_eval(name), ""
                case _:
                    pass


def _ours() -> set[tuple[str, str, str]]:
    return {found for found in _imported() if found[1].partition(".")[0] == "kluis"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_programs_in_pages_are_python(page: Path) -> None:
    """Every program of a page can be read as Python."""
    for block in BLOCK.finditer(page.read_text()):
        ast.parse(textwrap.dedent(block[2]), str(page))


def test_guides_and_examples_import_the_public_modules() -> None:
    """They import every public module, and no other."""
    assert {module for _, module, _ in _ours()} == set(PUBLIC)


def test_they_import_public_names() -> None:
    """Each name that they import is one of its module's public names."""
    found = [
        (where, module, name)
        for where, module, name in sorted(_ours())
        if name and name not in importlib.import_module(module).__all__
    ]
    assert found == []


def test_the_reference_has_the_public_modules() -> None:
    """The page has a part for each public module, in the order of the list."""
    headings = re.findall(r"^## `(.*)`$", (REFERENCE / "python.md").read_text(), re.MULTILINE)
    assert tuple(headings) == PUBLIC


def test_only_faces_list_their_names() -> None:
    """``__all__`` is in packages' own modules and in public modules; an underscore marks what is private."""
    faces = {f"{name.removeprefix('kluis.').replace('.', '/')}.py" for name in PUBLIC}
    listing = [
        str(module)
        for module in modules()
        if module.name != "__init__.py"
        and any(isinstance(node, ast.Name) and node.id == "__all__" for node in ast.walk(parse(module)))
    ]
    assert set(listing) <= faces


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    """What a public module lists it has, also what is loaded late; another name is an AttributeError."""
    module = importlib.import_module(name)
    assert [each for each in module.__all__ if not hasattr(module, each)] == []
    assert not hasattr(module, "no_such_name")
