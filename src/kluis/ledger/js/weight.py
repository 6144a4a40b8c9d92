r"""How much of an engine's heap the compiler of a source may need, read from its text only.

Four things need more than a fixed number of bytes for each byte of source, measured with jsbox 0.1.3:

- a property escape of a regular expression: 8 KiB for ``\p{L}``, 110 KiB for ``\p{RGI_Emoji}``;
- a class of a regular expression that ignores case: 9.4 KiB for ``[a-\uffff]``;
- a name that is used in nested functions: 15 bytes in each function between;
- ``eval``: 9 bytes in its function for each variable around it, also for those of the same name.
"""

from __future__ import annotations

import re
from typing import Final

HEAP_EACH: Final = 512
"""Bytes of heap for each unit of weight, which is at least a byte of source. The compiler needs up to 200."""
_ESCAPE: Final = 512
_NAMES_EACH: Final = 20
_CLASS: Final = 20
_PROPERTY: Final = re.compile(r"\\[pP]")
_IGNORES_CASE: Final = re.compile(r"/[dgmsuvy]*i|\(\?[ms]*i")
"""The flags of a literal, or of a part of one."""
_WORD: Final = re.compile(r"[\w$]+", re.ASCII)
# An identifier with others is counted by these, and so is space that is not ASCII.
_OTHER: Final = re.compile(r"\\u|[^\x00-\x7f]")
_FUNCTION: Final = re.compile(r"=>|\{")  # each function has one of them
_OF_THE_LANGUAGE: Final = 8
"""``this``, ``arguments`` and such, which arrow functions take from the function around them."""


def weight(source: str) -> int:
    """How heavy a source is: ``HEAP_EACH`` bytes of heap for each unit compile it.

    It is at least the number of bytes in UTF-8. Text and comments count as code.
    """
    words = _WORD.findall(source)
    evaluates = "eval" in source or "\\u" in source
    names = len(words if evaluates else set(words)) + len(_OTHER.findall(source)) + _OF_THE_LANGUAGE
    functions = len(_FUNCTION.findall(source))
    return (
        len(source.encode("utf-8", "replace"))
        + _ESCAPE * len(_PROPERTY.findall(source))
        + (_CLASS * source.count("[") if _IGNORES_CASE.search(source) else 0)
        + functions * names // _NAMES_EACH
    )
