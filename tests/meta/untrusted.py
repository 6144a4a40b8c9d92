"""Every place in the source where text could become code, a name, a pattern or a command."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

CALLS = frozenset({
    "eval", "exec", "compile", "__import__", "import_module", "ForwardRef", "get_type_hints", "_eval_type",
    "run_path", "run_module", "make_dataclass", "defstruct", "NamedTuple", "namedtuple", "new_class",
    "system", "popen", "Template", "methodcaller", "attrgetter", "spec_from_file_location",
    "fnmatch", "fnmatchcase", "unpack_archive", "extractall",
})  # fmt: skip
"""Calls that are listed whatever their arguments."""
ATTRIBUTES = frozenset({"getattr", "setattr", "delattr", "hasattr"})
"""Listed where the name is not a literal."""
PATTERNS = frozenset({"compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer"})
"""Of ``re``: listed where the pattern is not a literal."""


def name_of(function: ast.expr) -> str:
    """The last part of what is called."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _literal(node: ast.expr) -> bool:
    match node:
        case ast.Constant():
            return True
        case ast.JoinedStr():
            return all(isinstance(part, ast.Constant) or _constant(part) for part in node.values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _literal(left) and _literal(right)
    return False


def _constant(part: ast.expr) -> bool:
    """A part of an f-string that is a constant of the module: replaced by its name."""
    return isinstance(part, ast.FormattedValue) and _upper(part.value)


def _upper(node: ast.expr) -> bool:
    name = name_of(node)
    return bool(name) and name == name.upper()


def kind(call: ast.Call) -> str | None:
    """What kind of place a call is; None if it is not one."""
    name, first = name_of(call.func), call.args[0] if call.args else None
    of = call.func.value if isinstance(call.func, ast.Attribute) else None
    found: str | None = None
    if isinstance(of, ast.Name) and of.id == "re" and name in PATTERNS:
        found = None if first is not None and (_literal(first) or _upper(first)) else f"re.{name}"
    elif name == "compile" and of is not None and name_of(of) != "builtins":
        found = None  # a statement of SQLAlchemy's
    elif name in CALLS and not (name == "system" and of is not None and name_of(of) != "os"):
        found = name
    elif name in ATTRIBUTES and of is None:
        found = name if len(call.args) > 1 and not isinstance(call.args[1], ast.Constant) else None
    elif name in ("format", "format_map") and of is not None and name_of(of) not in ("json",):
        found = None if _literal(of) or _upper(of) else name
    elif name == "Enum" and len(call.args) > 1:
        found = "Enum"
    elif any(one.arg == "shell" and getattr(one.value, "value", None) is not False for one in call.keywords):
        found = "shell"
    elif (
        name == "text"
        and isinstance(of, ast.Name)
        and of.id in ("sqlalchemy", "sa")
        and not _literal(call.args[0])
    ):
        found = "text"
    return found


def places(root: Path) -> Iterator[tuple[str, str]]:
    """Path under ``root`` and kind of every place; also imports of what reads code from bytes.

    The files of templates are text of other projects, as in :func:`tests.meta.tree.modules`.
    """
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[:2] == ("projects", "templates"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        where = path.relative_to(root).as_posix()
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (found := kind(node)) is not None:
                yield where, found
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in {"pickle", "marshal", "shelve", "yaml", "runpy", "code"} & set(names):
                yield where, f"import {name}"
