"""Nothing is there for nobody: each name of a module has a user other than its own tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from kluis.cli import main
from tests.meta.tree import DOCS, ROOT, modules, parse

# A vendor's or a standard's table is complete, used or not; helpers for tests are used by tests.
EXEMPT = {"formats", "testing"}
# What alembic, the commands and the tables of TEEs look up by its name in each of several modules.
LOOKED_UP = {"COMMANDS", "FIELDS", "down_revision", "revision", "upgrade"}
# A fence, or a span: the text between two runs of as many backticks.
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)


def test_every_name_has_a_user() -> None:
    """No constant, class or function exists without a user, or only for its own tests."""
    trees = {_dotted(module): parse(module) for module in modules()}
    used = {each for tree in trees.values() for each in _used(tree, set(trees))}
    for name, entry in main.COMMANDS.items():
        function, module = name.replace("-", "_"), f"kluis.cli.{entry.module}"
        used |= {(module, function), (module, f"{function}_")}
    told = {word for text in _told() for word in re.findall(r"\w+", text)}
    unused = [
        f"{module}.{name}"
        for module, tree in trees.items()
        if not EXEMPT & set(module.split("."))
        for name in set(_named(tree)) - _read(tree) - told - LOOKED_UP
        if (module, name) not in used
    ]
    assert unused == []


def _read(tree: ast.Module) -> set[str]:
    """The names that a module reads itself."""
    return {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _dotted(module: Path) -> str:
    return ".".join(("kluis", *module.with_suffix("").parts)).removesuffix(".__init__")


def _told() -> Iterator[str]:
    """The code in users' texts, whose prose has the same words for other things, and in scripts."""
    for page in DOCS.rglob("*.md"):
        yield from (match[2] for match in CODE.finditer(page.read_text(encoding="utf-8")))
    for folder in (".github/actions", "bench", "examples", "fuzz", "runtime", "scripts", "tests/corpus"):
        yield from (path.read_text(encoding="utf-8") for path in (ROOT / folder).rglob("*.py"))


def _used(tree: ast.Module, known: set[str]) -> Iterator[tuple[str, str]]:
    """Each name of another module, with its module, that a module imports or reaches by it."""
    aliases: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield node.module, alias.name
                aliases.setdefault(alias.asname or alias.name, set()).add(f"{node.module}.{alias.name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield from ((module, node.attr) for module in _modules(node.value, aliases) if module in known)


def _modules(node: ast.expr, aliases: dict[str, set[str]]) -> set[str]:
    """The modules that an expression may be, where it is a name or a dotted one."""
    if isinstance(node, ast.Attribute):
        return {f"{module}.{node.attr}" for module in _modules(node.value, aliases)}
    return aliases.get(node.id, set()) if isinstance(node, ast.Name) else set()


def _named(tree: ast.Module) -> Iterator[str]:
    """What a module names, but what Python reads itself or a decorator has handed on."""
    for node in tree.body:
        targets: list[ast.expr] = []
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if isinstance(node, ast.ClassDef) or not node.decorator_list:
                yield from (name for name in [node.name] if not name.startswith("__"))
        elif isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for each in (each for target in targets for each in ast.walk(target)):
            if isinstance(each, ast.Name) and each.id != "_" and not each.id.startswith("__"):
                yield each.id
