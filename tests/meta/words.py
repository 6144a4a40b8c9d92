"""Finds words in prose that have a plainer form: ``python -m tests.meta.words PATH...`` prints each.

Prose is what a person reads. In Python: docstrings, comments, and strings with a space in them. In Markdown:
everything but code. In TOML, C and C headers: comments, and strings with a space in them.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

# A pattern of the word, where any space may be a line's end, and what to write instead.
PLAIN = {
    r"mend(s|ed|ing)?": "fix, repair",
    r"anew": "again, re-issue, restart",
    r"who(ever|soever)": "anyone who, a caller that, the operator",
    r"(nobody|somebody|everybody|one|he) who": "no client that, anyone who, a caller that",
    r"told": "configured with, receives, reports, is logged",
    r"tell(s|ing)? of": "reports",
    r"says": "states, contains, specifies, reports",
    r"(asks|asked)": "requests, queries, calls",
    r"beside": "next to, alongside, in addition to",
    r"alone": "only",
    r"makers?": "vendor",
    r"stands?(?! for\b)": "is, appears, is listed",
    r"vouch(es|ed|ing)? for": "signs, certifies, attests",
    r"go(es)? by": "uses, is determined by",
    r"(?<!there\s)(is|are) none": "is not a ..., there is no ...",
    r"what (comes|came|is) of": "the result, belonging to",
    r"at hand": "available, cached",
    r"(is|are|was|were|be|being) away": "is unreachable",
    r"over its hold": "above its limit",
    r"(know|knows|knew|known|heard) of": "has, contains",
    r"known otherwise": "(state how)",
    r"in so many words": "explicitly",
    r"(refus|reject|deni)\w+ by name": "with an error that names ...",
    r"the one\b[^.;:|]{1,80}\bthe other": "(name them)",
    r"(is|are) (his|theirs|yours|ours) to": "they must",
    r"of (its|their|your|his|our|one's) own": "own, separate, dedicated",
    r"for ever": "indefinitely, without timeout",
    r"oftener": "at most once per ...",
    r"(put|puts|set|sets) back": "rolled back, restored",
    r"taken for": "mistaken for, parsed as",
    r"makes for": "produces",
    r"(is|are|was|were|be|being) made of": "consists of",
    r"lack(s|ed)?": "is missing, does not have",
}
REFUSED = re.compile(
    "|".join(rf"(?<![\w-])(?:{pattern})(?![\w-])".replace(" ", r"[\s#*]+") for pattern in PLAIN),
    re.IGNORECASE,
)
CODE = re.compile(  # a line that begins with a name and a colon describes an argument or a field
    r"```.*?^\s*```|``.+?``|`[^`]+`|\]\([^)\s]*\)|<!--.*?-->|^[ \t]+\w+:(?=\s)", re.DOTALL | re.MULTILINE
)
TOML = re.compile(r'"""(.*?)"""|"((?:[^"\\\n]|\\.)*)"|\'([^\'\n]*)\'|(#[^\n]*)', re.DOTALL)
C = re.compile(r'/\*(.*?)\*/|"((?:[^"\\\n]|\\.)*)"|(//[^\n]*)', re.DOTALL)
KINDS = (".py", ".md", ".toml", ".c", ".h")


class Found(NamedTuple):
    """A word that has a plainer form, with the line it begins on."""

    line: int
    word: str


def _blank(match: re.Match[str]) -> str:
    """As many characters and lines as were matched, none of them a word."""
    return re.sub(r"[^\n]", "_", match[0])


def _python(text: str) -> Iterator[tuple[int, str]]:
    comment, first, last = "", 0, 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or token.string.startswith("#!"):
            continue
        if token.start[0] == last + 1:
            comment, last = f"{comment}\n{token.string}", last + 1
            continue
        yield first, comment
        comment, first, last = token.string, token.start[0], token.start[0]
    yield first, comment
    tree = ast.parse(text)
    yield from _strings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.lineno, str(node.value.value)


def _strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The strings of a module that are not docstrings."""
    passed: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            passed.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            passed.update(node.values)
            parts = (str(part.value) if isinstance(part, ast.Constant) else "_" for part in node.values)
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in passed:
            yield node.lineno, node.value


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, str]]:
    for match in pattern.finditer(text):
        yield (
            text.count("\n", 0, match.start()) + 1,
            next(group for group in match.groups() if group is not None),
        )


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The passages of a file that people read, each with the line it begins on."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield 1, text
        return
    passages = (
        _python(text) if path.suffix == ".py" else _matches(TOML if path.suffix == ".toml" else C, text)
    )
    yield from ((line, passage) for line, passage in passages if " " in passage.strip())


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of a module that may reach a person: messages, hints and help, without docstrings."""
    strings = _strings(ast.parse(path.read_text(encoding="utf-8")))
    yield from ((line, passage) for line, passage in strings if " " in passage.strip())


def found(passages: Iterable[tuple[int, str]]) -> list[Found]:
    """The words that have a plainer form, in the order of their lines."""
    words = []
    for line, passage in passages:
        text = CODE.sub(_blank, passage)
        words += [
            Found(line + text.count("\n", 0, match.start()), " ".join(match[0].split()))
            for match in REFUSED.finditer(text)
        ]
    return sorted(words)


def files(root: Path) -> list[Path]:
    """A file itself, or the files of a folder that may hold prose."""
    return [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.suffix in KINDS)


if __name__ == "__main__":
    for root in sys.argv[1:]:
        for path in files(Path(root)):
            for line, word in found(prose(path)):
                print(f"{path}:{line}: {word}")
