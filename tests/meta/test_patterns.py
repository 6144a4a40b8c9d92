"""No pattern in the source ends with ``$``: it also matches before a line feed at the end of a text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import get_type_hints

import msgspec
import pytest

from kluis.cleanroom.agreement import agreement, terms
from kluis.cleanroom.records import events
from tests.meta.tree import modules, parse

FUNCTIONS = {"compile", "match", "search", "fullmatch", "sub", "subn", "split", "findall", "finditer"}


def _text(node: ast.expr, names: dict[str, ast.expr]) -> str:
    """The pattern that an expression is, as far as it is written out."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Constant(value=bytes(data)):
            return data.decode("latin-1")
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, names) for part in parts)
        case ast.BinOp(left=left, right=right):
            return _text(left, names) + _text(right, names)
        case ast.Name(id=name) if name in names:
            return _text(names[name], {})
        case _:
            return ""


def _ends(pattern: str) -> bool:
    """Whether a pattern has a ``$`` that is neither escaped nor in a class of characters."""
    plain = re.sub(r"\\.", "", pattern, flags=re.DOTALL)
    return "$" in re.sub(r"\[\^?\]?[^\]]*\]", "", plain)


def _patterns(tree: ast.Module) -> Iterator[tuple[int, str]]:
    names = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if any("MULTILINE" in ast.dump(each) for each in (*node.args, *node.keywords)):
            continue  # there it is the end of a line, which is what it is for
        match node.func:
            case ast.Attribute(value=ast.Name(id="re"), attr=called) if called in FUNCTIONS and node.args:
                yield node.lineno, _text(node.args[0], names)
        for keyword in node.keywords:
            if keyword.arg == "pattern":
                yield node.lineno, _text(keyword.value, names)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (r"^a$", True),
        (r"(a|$)", True),
        (r"[^]$]b$", True),
        (r"a\$", False),
        (r"[$]", False),
        (r"^a\Z", False),
    ],
)
def test_what_is_found(pattern: str, found: bool) -> None:
    """A ``$`` is found where it is an end, and only there."""
    assert _ends(pattern) is found


def test_no_pattern_ends_before_a_line_feed() -> None:
    """No pattern that is written out in the source takes a line feed after its text."""
    seen, wrong = 0, []
    for module in modules():
        for line, pattern in _patterns(parse(module)):
            seen += bool(pattern)
            if _ends(pattern):
                wrong.append(f"{module}:{line}: {pattern}")
    assert seen > 100
    assert wrong == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (terms.Identifier, "clinic"),
        (terms.ColumnName, "age"),
        (terms.Hex32, "0f" * 32),
        (get_type_hints(agreement.Agreement, include_extras=True)["parent"], ""),
        (get_type_hints(events.Event, include_extras=True)["subject"], "a"),
    ],
)
def test_identifiers_take_no_line_feed(kind: object, text: str) -> None:
    """A name with a line feed after it is another name, shown as the same: it is refused."""
    assert msgspec.convert(text, kind) == text  # type: ignore[call-overload]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text + "\n", kind)  # type: ignore[call-overload]
