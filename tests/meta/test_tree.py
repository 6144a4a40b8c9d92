"""The shape of the tree: small modules, named by noun, each with a sentence and a test."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from pathlib import Path

import pytest

from tests.meta.tree import ROOT, SRC, TESTS, modules, parse

MOST_LINES = 400
MOST_MODULES = 16
MOST_FOLDERS = 10
NOT_NOUNS = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}


def test_no_module_is_too_long() -> None:
    """No module passes 400 lines."""
    lines = {str(module): len((SRC / module).read_text().splitlines()) for module in modules()}
    assert lines
    assert {module: count for module, count in lines.items() if count > MOST_LINES} == {}


@pytest.mark.parametrize("module", modules(), ids=str)
def test_says_what_it_is(module: Path) -> None:
    """Every module with code in it opens with a docstring whose first line is a sentence."""
    tree = parse(module)
    if not tree.body:
        return
    said = ast.get_docstring(tree)
    assert said
    assert len(said.split("\n\n")[0]) > 15


def test_named_by_noun() -> None:
    """No module or folder is called by a word that means nothing."""
    assert [module for module in modules() if NOT_NOUNS & set(module.with_suffix("").parts)] == []


def test_no_folder_holds_too_much() -> None:
    """At most 16 modules in a folder, so that one look takes them in."""
    held: dict[Path, int] = {}
    for module in modules():
        held[module.parent] = held.get(module.parent, 0) + (module.name != "__init__.py")
    assert {str(folder): count for folder, count in held.items() if count > MOST_MODULES} == {}


def test_no_folder_holds_too_many_folders() -> None:
    """At most 10 folders in a folder, but for layers, formats and groups of commands: each has a folder."""
    folders = {parent for module in modules() for parent in module.parents if parent != Path()}
    held: dict[Path, int] = {}
    for folder in folders:
        held[folder.parent] = held.get(folder.parent, 0) + 1
    crowded = {str(folder) for folder, count in held.items() if count > MOST_FOLDERS}
    assert crowded == {".", "cli", "formats"}


def test_what_a_neighbour_needs_is_public() -> None:
    """No module imports a name with an underscore, or a module with one, from another top-level package."""
    found = []
    for module in modules():
        for node in ast.walk(parse(module)):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("kluis."):
                continue
            path = [*str(node.module).split("."), *(alias.name for alias in node.names)]
            private = [part for part in path if part.startswith("_")]
            if private and path[1] != module.parts[0]:
                found.append(f"{module}: {private[0]}")
    assert found == []


# What is imported of others though they call it private.
PRIVATE = {
    "_frozen_importlib_external": "an enclave measures each import, and the import system has no other name",
    "_queue": "an enclave's workers need one queue, and queue itself loads more than it",
    "_sha2": "the interpreter's own SHA-256, before anything measured is imported; CPython 3.12 and later",
    "_sha256": "likewise, CPython 3.11",
    "_socket": "an enclave's first call waits for no more than it needs of socket",
    "_thread": "likewise of threading",
    "cryptography.hazmat.bindings._rust": "an enclave starts with it; public modules load every algorithm",
}


def test_what_is_private_elsewhere_is_listed() -> None:
    """A private module or name of another package is imported for a reason that is written here."""
    found = set()
    for module in modules():
        for node in ast.walk(parse(module)):
            if isinstance(node, ast.Import):
                paths = [alias.name.split(".") for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module != "__future__":
                paths = [[*str(node.module).split("."), alias.name] for alias in node.names]
            else:
                continue
            for path in paths:
                if path[0] != "kluis" and any(part.startswith("_") for part in path):
                    at = next(index for index, part in enumerate(path) if part.startswith("_"))
                    found.add(".".join(path[: at + 1]))
    assert found <= set(PRIVATE)


def test_every_folder_of_tests_is_a_folder_of_the_source() -> None:
    """The tree of tests mirrors the source, with four additional folders."""
    own = {"meta", "clients", "adversary", "packages"}
    for path in TESTS.rglob("test_*.py"):
        folder = path.parent.relative_to(TESTS)
        if folder.parts and folder.parts[0] not in own:
            assert (SRC / folder).is_dir(), f"{path.relative_to(ROOT)}: no folder {folder} in src/kluis"


def test_every_room_has_tests() -> None:
    """Every package of the source that has code has a folder of tests, or one named after it."""
    rooms = sorted({module.parts[0] for module in modules() if len(module.parts) > 1})
    assert [room for room in rooms if not list((TESTS / room).rglob("test_*.py"))] == []


FORBIDDEN = re.compile(
    r"\b(?:TODO|FIXME|XXX|HACK)\b|NotImplementedError|secure enclave|/home/[a-z]+/|/root/\.",
    re.IGNORECASE,
)
SPEAKS_OF_THEM = {"tests/meta/test_tree.py", "docs/glossary.md"}


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines()]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_no_word_that_means_unfinished() -> None:
    """No file carries a promise to finish it, a path of somebody's machine, or a name for what it is not."""
    found = []
    for path in _tracked():
        if str(path.relative_to(ROOT)) in SPEAKS_OF_THEM or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {hit.group()}" for hit in FORBIDDEN.finditer(text)]
    assert found == []


@functools.cache
def _imports(module: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def test_struct_is_used_in_two_places() -> None:
    """Bytes are claimed by the layout compiler and the cursor, nowhere else."""
    users = {str(module) for module in modules() if "struct" in _imports(module)}
    assert users <= {"formats/encoding/layout.py", "formats/encoding/reader.py"}


TIMELESS = {"errors.py", "frozen.py", "hashes.py", "formats", "evidence", "appraisal", "authority", "ledger"}
CLOCK = re.compile(r"\bdatetime\.now\(|\btime\.time\(|\bdatetime\.utcnow\(|\bdate\.today\(")


def test_nothing_below_collateral_and_tee_reads_the_clock() -> None:
    """Time is an argument in formats, evidence, appraisal, authority and ledger, and inside an enclave."""
    readers = [
        str(module)
        for module in modules()
        if module.parts[0] in TIMELESS and CLOCK.search((SRC / module).read_text())
    ]
    assert readers == []


def test_only_makers_mint() -> None:
    """Only the vendors' checks make verified values, and what joins an enclave's and its machine's."""
    minters = {str(m) for m in modules() if "kluis.evidence.verified.mint" in _imports(m)}
    assert {Path(minter).parts[0] for minter in minters} == {"evidence"}
    assert {minter for minter in minters if len(Path(minter).parts) != 3} == {"evidence/endorsed.py"}


def test_what_is_unreadable_stands_in_one_place() -> None:
    """Text that is not UTF-8 raises no MsgspecError: a caller that only catches that lets another error
    pass.
    """
    named = [module for module in modules() if "MsgspecError" in (SRC / module).read_text(encoding="utf-8")]
    assert named == [Path("formats/encoding/unreadable.py")]
