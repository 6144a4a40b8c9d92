"""Verification reads in the order of its numbers: a docstring's list, and the body that follows it."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

import pytest

from tests.meta.tree import SRC, modules

ITEM = re.compile(r"^(\d+)\. ", re.MULTILINE)
ANY_ITEM = re.compile(r'^ *(?:r?""")?\d+\. ', re.MULTILINE)
"""In the text of every module that has an item. To parse the others took each process of ``-n`` seconds."""
COMMENT = re.compile(r"# (\d+(?:(?:, | and | to )\d+)*)(?:[;:] .*)?")
RANGE = re.compile(r"(\d+) to (\d+)|(\d+)")


def _numbers(text: str) -> Iterator[int]:
    """The numbers of a comment such as ``1, 4 to 6``."""
    for first, last, one in RANGE.findall(text):
        yield from range(int(first), int(last) + 1) if first else [int(one)]


def _commented(text: str) -> dict[int, list[int]]:
    """By line, the numbers of its comment, where that begins with numbers."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = (
        (token, COMMENT.fullmatch(token.string)) for token in tokens if token.type == tokenize.COMMENT
    )
    return {each.start[0]: list(_numbers(match[1])) for each, match in comments if match}


def numbered(text: str) -> Iterator[tuple[str, list[int], list[int]]]:
    """Of each function that numbers its steps: its name, the steps, and the numbers in its body."""
    if not ANY_ITEM.search(text):
        return
    comments = _commented(text)
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if steps := [int(number) for number in ITEM.findall(ast.get_docstring(node) or "")]:
            lines = range(node.lineno, (node.end_lineno or 0) + 1)
            yield node.name, steps, [number for line in lines for number in comments.get(line, [])]


CASES = [
    pytest.param(steps, body, id=f"{module}:{name}")
    for module in modules()
    for name, steps, body in numbered((SRC / module).read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("steps", "body"), CASES)
def test_the_body_has_the_steps_in_order(steps: list[int], body: list[int]) -> None:
    """The body's comments number every step of the docstring, in ascending order, and no other."""
    assert body == sorted(body)
    assert sorted(set(body)) == steps


def test_what_is_found() -> None:
    """Lists, ranges and both words for a pair are read; a comment with more text than numbers is ignored."""
    text = (
        'def f():\n    """Do.\n\n    1. a\n    2. b\n    """\n'
        "    g()  # 1, 2 and 4 to 6; late\n    h()  # 3 of them\n"
    )
    assert list(numbered(text)) == [("f", [1, 2], [1, 2, 4, 5, 6])]
