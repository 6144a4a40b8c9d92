"""List every leaf of a document as text for its signer; text that cannot be shown is refused.

The walk does not depend on any document's fields: a field that is added later is listed as well. Text that a
reader would not see unchanged (control characters, characters of no width, text that changes direction,
blanks that push the rest out of view) is refused, in single-line and multi-line fields.
"""

from __future__ import annotations

import datetime
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

from kluis.cleanroom.agreement.documents import Document
from kluis.errors import PolicyError
from kluis.formats.encoding.brief import instant
from kluis.hashes import sha256

WIDTH: Final = 80
#: Fields of multi-line text; all other fields have one line.
BLOCKS: Final = frozenset({"machine", "query", "roots", "table"})
MOST_LINE: Final = 1000
MOST_BLANKS: Final = 64
MOST_EMPTY_LINES: Final = 4
MOST_MARKS: Final = 3
# Letters, marks and symbols without a picture: Unicode's Default_Ignorable_Code_Point outside the category
# Cf, the empty Braille pattern, blanks that are letters, and the joiners and stackers of scripts that are no
# longer in daily use (Indic_Syllabic_Category).
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u2d7f\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U00010a3f\U0001107f\U000113d0\U0001193e\U00011a47\U00011a99\U00011d45\U00011d97\U00011f42"
    "\U00013441\U00013442\U00016fe4\U0001d159\U000e0000-\U000e0fff]"
)
_BARE: Final = re.compile("[A-Za-z0-9_.:/+-]{1,70}")
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})


def check(document: Document, what: str) -> None:
    """Refuse a document with text that cannot be shown.

    Raises:
        PolicyError: names the field and what is wrong with its text.
    """
    for path, name, value in leaves(document):
        if isinstance(value, str) and (problem := _problem(value, block=name in BLOCKS)):
            raise PolicyError(f"{what}.{path}: {problem}", code="unshowable")


def leaves(value: Any, path: str = "", name: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every leaf of a document: its path, the name of its field, and its value.

    Raises:
        TypeError: a kind of value that no document has.
    """
    match value:
        case Document():
            for field, each in _fields(value):
                yield from leaves(each, f"{path}.{field}" if path else field, field)
        case tuple():
            for number, each in enumerate(value, 1):
                yield from leaves(each, f"{path}[{number}]", name)
        case None | bool() | int() | float() | str() | bytes() | datetime.datetime() | datetime.date():
            yield path, name, value
        case _:
            raise TypeError(f"{path}: a document holds no {type(value).__name__}")


def listing(document: Document) -> list[str]:
    """Every leaf of a document, one or more lines each, at most 80 columns wide.

    A line that begins with ``|`` is a line of a text; a line with a backslash continues the previous one.

    Args:
        document: accepted by :func:`check`.
    """
    return list(_list_lines(document, "", "", 1))


def text_block(indent: str, text: str) -> list[str]:
    """The lines of a text, each marked, and at most 80 columns wide."""
    return [line for each in text.splitlines() or [""] for line in fold(f"{indent}| ", each, f"{indent}\\ ")]


def fold(first: str, text: str, then: str) -> list[str]:
    """One line of text, folded into as many as it needs, each with its prefix; nothing is left out."""
    lines, begin, line = [], first, ""
    for each in text:
        if _columns(begin + line + each) > WIDTH:
            cut = line.rfind(" ") + 1
            cut = cut if cut > 0 and (begin == first or 2 * cut > len(line)) else len(line)
            lines.append(begin + line[:cut])
            begin, line = then, line[cut:]
        line += each
    return [*lines, begin + line]


def quote(text: str) -> str:
    """A text between quotes; a quote in it is escaped with a backslash."""
    return json.dumps(text, ensure_ascii=False)


def is_plain(text: str) -> bool:
    """Whether a line of text is seen as it is."""
    return not _problem(text, block=False)


def is_right_to_left(text: str) -> bool:
    """Whether a text has letters that are written from right to left: what follows on its line can move."""
    return any(unicodedata.bidirectional(each) in _RIGHT_TO_LEFT for each in text)


def _list_lines(value: Any, label: str, name: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    then = f"{indent}  \\ "
    if isinstance(value, str) and name in BLOCKS and value:
        yield f"{indent}{label}"
        yield from text_block(f"{indent}  ", value)
    elif not _is_branch(value):
        yield from fold(f"{indent}{label} = ", _plain(value), then)
    elif isinstance(value, tuple):
        for number, each in enumerate(value, 1):
            yield from _list_lines(each, f"{label}[{number}]", name, depth)
    else:
        fields = list(_fields(value))
        if label and not any(_is_branch(each) or field in BLOCKS for field, each in fields):
            text = "; ".join(f"{field} = {_plain(each)}" for field, each in fields)
            yield from fold(f"{indent}{label}: ", text, then)
            return
        if label:
            yield f"{indent}{label}"
        for field, each in fields:
            yield from _list_lines(each, field, field, depth + 1 if label else depth)


def _is_branch(value: Any) -> bool:
    """Whether a value needs more than one line: a document, or a tuple of documents or of texts."""
    if isinstance(value, tuple):
        return any(isinstance(each, Document | tuple) or "\n" in str(each) for each in value)
    return isinstance(value, Document)


def _fields(document: Document) -> Iterator[tuple[str, Any]]:
    config = document.__struct_config__
    if config.tag_field is not None:
        yield config.tag_field, config.tag
    for field in document.__struct_fields__:
        yield field, getattr(document, field)


def _plain(value: Any) -> str:
    return (", ".join(map(_scalar, value)) or "none") if isinstance(value, tuple) else _scalar(value)


def _scalar(value: Any) -> str:
    match value:
        case str():
            return value if _BARE.fullmatch(value) else quote(value)
        case bytes():
            return f"{len(value)} bytes, sha256 {sha256(value).hex()}"
        case datetime.datetime():
            return instant(value)
        case bool() | None:
            return json.dumps(value)
        case _:
            return str(value)


def _problem(text: str, *, block: bool) -> str:
    """The reason why a text cannot be shown unchanged; "" if it can."""
    allowed = "\n\t" if block else ""
    for place, each in enumerate(text):
        category = unicodedata.category(each)
        if each in allowed or each == " ":
            continue
        if category[0] in "CZ" or _INVISIBLE.match(each):
            return f"want text that is seen as it is, got the character {_name(each)} at {place}"
        if block and is_right_to_left(each):
            return f"want text from left to right, got the character {_name(each)} at {place}"
    if unicodedata.normalize("NFC", text) != text:
        return "want text in Unicode's form NFC, got another"
    marks = 0
    for each in text:
        marks = marks + 1 if unicodedata.category(each)[0] == "M" else 0
        if marks > MOST_MARKS:
            return f"want at most {MOST_MARKS} marks on a letter, got more"
    if " " * (MOST_BLANKS + 1) in text.replace("\t", "        "):
        return f"want at most {MOST_BLANKS} blanks in a row, got more"
    if re.search(rf"(?:\n[ \t]*){{{MOST_EMPTY_LINES + 2}}}", text):
        return f"want at most {MOST_EMPTY_LINES} empty lines in a row, got more"
    longest = max(map(len, text.split("\n")))
    if block and longest > MOST_LINE:
        return f"want lines of at most {MOST_LINE} characters, got {longest}"
    return ""


def _name(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()


def _columns(text: str) -> int:
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text.replace("\t", "        ")
    )
