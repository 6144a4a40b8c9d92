"""Text from outside, so that whatever shows it shows every character and obeys none."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Final

# Controls, marks of direction and the like, other ends of lines, halves of characters.
_OBEYED: Final = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})


def harmless(text: str, escaped: Callable[[str], str] = ascii) -> str:
    """Text whose characters a terminal shows, and obeys none of: evidence is others' words.

    Args:
        text: of lines; tabs and line feeds stay.
        escaped: writes a character that is not shown, in quotes.
    """
    if all(line.isprintable() for line in text.split("\n")):
        return text
    return "".join(
        escaped(each)[1:-1] if unicodedata.category(each) in _OBEYED and each not in "\n\t" else each
        for each in text
    )
