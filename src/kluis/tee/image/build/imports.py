"""Find a module's imports from its source, without running it.

Also a program, as :mod:`kluis.tee.image.build.compiler` is: with it the base layer's interpreter reads
sources that may be hostile, within the same limits. So it imports only the standard library.
"""

from __future__ import annotations

import ast
import json
import runpy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

LATE: Final = "_LATE"
"""What a module calls the declaration of what it loads late: modules, or modules by the names they give."""


def imports_of(data: bytes, path: str) -> bytes:
    """What a module imports, wherever in it, but for type checkers only.

    Args:
        data: its source, in UTF-8.
        path: in its layer: ``package/module.py``.

    Returns:
        JSON: ``modules``, dotted names of which the last part may be a name within a module, or ``*``;
        ``attributes``, every name that the source takes of something (``x.name``); ``late``, what ``_LATE``
        declares, or null. Empty of a source that is not Python.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data.removeprefix(b"\xef\xbb\xbf").decode())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return b""
    parts = path.removesuffix(".py").split("/")
    package = parts[:-1]
    modules, attributes, late = set(), set(), None
    for node in _run(tree):
        if isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = [*above, *([node.module] if node.module else [])]
            modules |= {".".join([*module, name.name]) for name in node.names}
        elif isinstance(node, ast.Attribute):
            attributes.add(node.attr)
        elif isinstance(node, ast.Call):
            modules |= _named_modules(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            late = _read_declared(node, late)
    document = {"modules": sorted(modules), "attributes": sorted(attributes), "late": late}
    return json.dumps(document).encode()


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those that only a type checker sees."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and _is_checking(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _is_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _named_modules(node: ast.Call) -> set[str]:
    """What ``import_module("a.b")`` loads, whatever the function is reached by."""
    match node:
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return {name}
        case _:
            return set()


def _read_declared(node: ast.Assign | ast.AnnAssign, before: Any) -> Any:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if node.value is None or not any(isinstance(one, ast.Name) and one.id == LATE for one in targets):
        return before
    try:
        return ast.literal_eval(node.value)
    except (ValueError, TypeError):
        return before


if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).with_name("compiler.py")))["main"](imports_of)
