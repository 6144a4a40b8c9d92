"""A value as a small table of HTML, for a notebook; every text in it is escaped.

Names and values come from images and from evidence, which are hostile: what would be markup is text, and what
would hide or turn other text is replaced. Nothing is loaded and nothing runs.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from kluis.errors import foreign

MOST_CHARACTERS = 2000
MOST_ROWS = 100


def card(title: str, rows: Iterable[tuple[str, str]], notes: Iterable[str] = ()) -> str:
    """A title, names with their values, and notes below.

    Args:
        title: one line.
        rows: at most 100 are shown; the first 2,000 characters of each value.
        notes: likewise.
    """
    shown = list(rows)
    lines = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in shown[:MOST_ROWS]
    )
    if len(shown) > MOST_ROWS:
        lines += f"<tr><th></th><td>.. and {len(shown) - MOST_ROWS} more</td></tr>"
    below = "".join(f"<li>{_text(note)}</li>" for note in list(notes)[:MOST_ROWS])
    listed = f"<ul>{below}</ul>" if below else ""
    return f"<div><strong>{_text(title)}</strong><table>{lines}</table>{listed}</div>"


def _text(value: str) -> str:
    return html.escape(foreign(value, MOST_CHARACTERS))
