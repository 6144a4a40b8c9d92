"""Text from outside: each place in the source where it could become code is listed, with why it does not."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

import pytest

from tests.meta.tree import DOCS, SRC
from tests.meta.untrusted import kind, places

ROW = re.compile(r"^\| `([\w/]+\.py)` \| (.+?) \| (.+) \|$", re.MULTILINE)


def test_every_place_is_listed() -> None:
    """docs/concepts/untrusted-text.md lists the places that the source has, each with a reason."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, what in places(SRC):
        found[path].add(what)
    page = (DOCS / "concepts" / "untrusted-text.md").read_text(encoding="utf-8")
    listed = {path: set(re.findall(r"`([^`]+)`", calls)) for path, calls, _ in ROW.findall(page)}
    assert listed == found
    assert all(len(why.split()) >= 3 for _, _, why in ROW.findall(page))


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("eval(text)", "eval"),
        ("builtins.exec(text)", "exec"),
        ("compile(text, 'f', 'exec')", "compile"),
        ("builtins.compile(text, 'f', 'exec')", "compile"),
        ("importlib.import_module('json')", "import_module"),
        ("__import__(name)", "__import__"),
        ("typing.ForwardRef(text)", "ForwardRef"),
        ("typing.get_type_hints(cls)", "get_type_hints"),
        ("getattr(value, name)", "getattr"),
        ("setattr(value, f'{name}', 1)", "setattr"),
        ("text.format(value)", "format"),
        ("text.format_map(values)", "format_map"),
        ("string.Template(text)", "Template"),
        ("re.compile(text)", "re.compile"),
        ("re.sub(f'{pattern}x', '', text)", "re.sub"),
        ("subprocess.run(line, shell=True)", "shell"),
        ("os.system(line)", "system"),
        ("sqlalchemy.text(query)", "text"),
        ("enum.Enum(name, members)", "Enum"),
        ("fnmatch.fnmatchcase(path, pattern)", "fnmatchcase"),
        ("archive.extractall(folder)", "extractall"),
        ("msgspec.defstruct(name, fields)", "defstruct"),
        ("getattr(value, 'name')", None),
        ("'{}'.format(text)", None),
        ("re.fullmatch(r'[0-9]+', text)", None),
        ("statement.compile(dialect)", None),
        ("platform.system()", None),
        ("subprocess.run([text], shell=False)", None),
    ],
)
def test_what_is_a_place(source: str, want: str | None) -> None:
    """A new call of these kinds is found; one with nothing but literals is not."""
    call = ast.parse(source, mode="eval").body
    assert isinstance(call, ast.Call)
    assert kind(call) == want
