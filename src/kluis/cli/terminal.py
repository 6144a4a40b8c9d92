"""Colours on a terminal, which only repeat what words say; elsewhere text stays as it is.

``NO_COLOR`` and ``TERM=dumb`` are obeyed. ``rich`` is loaded for a terminal only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.text import Text

# What begins a line, and its style. A failed check is a line to look at; of others the word is.
_STYLES: Final = (
    (re.compile(r"FAIL  .*"), "bold red"),
    (re.compile(r"ok(?=  )"), "green"),
    (re.compile(r"note(?=  )"), "yellow"),
    (re.compile(r"tier  affirming\b"), "bold green"),
    (re.compile(r"tier  warning\b"), "bold yellow"),
    (re.compile(r"tier  contraindicated\b"), "bold red"),
    (re.compile(r"kluis: error:"), "bold red"),
    (re.compile(r"kluis: hint:"), "bold"),
)


def paint(text: str, stream: TextIO) -> str:
    """Text as a terminal shows it.

    Args:
        text: of lines, none of which holds what a terminal obeys.
        stream: where it goes.
    """
    if not stream.isatty():
        return text
    from rich.console import Console

    console = Console(file=stream, highlight=False, soft_wrap=True)
    if console.color_system is None:
        return text
    with console.capture() as shown:
        for line in text.split("\n"):
            console.print(_style(line))
    return shown.get().removesuffix("\n")


def width(text: str) -> int:
    """How many columns of a terminal text takes."""
    from rich.cells import cell_len

    return len(text) if text.isascii() else cell_len(text)


def _style(line: str) -> Text:
    from rich.text import Text

    styled = Text(line)
    for pattern, style in _STYLES:
        if match := pattern.match(line):
            styled.stylize(style, *match.span())
    return styled
