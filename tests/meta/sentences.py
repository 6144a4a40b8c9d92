"""How long a page's sentences are: ``python -m tests.meta.sentences PAGE...`` prints each page's average.

Paragraphs, list items, and cells of tables with eight words or more count as sentences. Code in a line is one
word. Fenced code, headings and links' addresses do not count.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

CELL_WORDS = 8
SKIPPED = re.compile(r"^```.*?^```|^<!--.*?-->|^#.*?$|^---.*?^---$", re.DOTALL | re.MULTILINE)
END = re.compile(r"(?<=[.!?])[\"”)*_]*\s+(?=[^a-z\s])")
WORD = re.compile(r"[^\W_]")


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs, items and longer cells, each on one line."""
    for block in re.split(r"\n\s*\n", SKIPPED.sub("\n\n", text)):
        if block.lstrip().startswith("|"):
            for row in block.strip().splitlines():
                cells = re.split(r"(?<!\\)\|", row)
                yield from (cell for cell in cells if len(_words(cell)) >= CELL_WORDS)
        else:
            yield from re.split(r"^\s*(?:[-*]|\d+\.)\s+", block, flags=re.MULTILINE)


def _words(text: str) -> list[str]:
    return [word for word in text.split() if WORD.search(word)]


def sentences(page: Path) -> list[str]:
    """The sentences of a page of Markdown."""
    text = SKIPPED.sub("\n\n", page.read_text(encoding="utf-8"))
    text = re.sub(r"\]\([^)]*\)", "]", re.sub(r"``.+?``|`[^`]+`", "Code", text, flags=re.DOTALL))
    return [each for block in _blocks(text) for each in END.split(" ".join(block.split())) if _words(each)]


def average(page: Path) -> float:
    """How many words a sentence of the page has; 0 for a page without one."""
    lengths = [len(_words(each)) for each in sentences(page)]
    return sum(lengths) / len(lengths) if lengths else 0.0


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{average(Path(name)):5.1f}  {name}")
