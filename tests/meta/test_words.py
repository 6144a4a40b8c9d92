"""The project's English is plain: no word that has a plainer form, and no page of long sentences.

``python -m tests.meta.words PATH...`` prints every such word as ``file:line: word``, and
``python -m tests.meta.sentences PAGE...`` prints how long a page's sentences are.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.meta import sentences, words
from tests.meta.tree import DOCS, ROOT, SRC, modules

# Files and folders that are plain. The list only grows: add what you have rewritten, and take nothing out.
CLEAN = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "bench",
    "docs",
    "examples",
    "native",
    "runtime",
    "scripts",
    "src",
    "tests/authority",
    "tests/conftest.py",
    "tests/ledger",
    "tests/packages",
    "tests/testing",
    "tests/views",
]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
MOST_WORDS = 25  # in a page's average sentence


@pytest.mark.parametrize("root", CLEAN)
def test_no_word_has_a_plainer_form(root: str) -> None:
    """What is listed as plain has no word of ``words.PLAIN`` in its prose."""
    paths = words.files(ROOT / root)

    assert paths
    found = [f"{path}:{line}: {word}" for path in paths for line, word in words.found(words.prose(path))]
    assert found == []


@pytest.mark.parametrize("module", modules(), ids=str)
def test_no_message_has_a_plainer_form(module: Path) -> None:
    """No error, hint or help text of the package has a word of ``words.PLAIN``."""
    assert words.found(words.messages(SRC / module)) == []


@pytest.mark.parametrize("page", [*PAGES, *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.name)
def test_sentences_are_short(page: Path) -> None:
    """A page's sentences have at most 25 words on average."""
    assert sentences.average(page) <= MOST_WORDS


def test_words_are_found_in_prose_only(tmp_path: Path) -> None:
    """Docstrings, comments and messages are read, also over a line's end; names, keys and code are not."""
    module = tmp_path / "module.py"
    module.write_text(
        '"""It tells\nof ``whoever``."""\n\nmaker = {"told": 1}  # kept for\n# ever\n'
        'raise E(f"{maker}: is none")\n'
        'F = "a standalone tool"\n\ndef f(alone):\n    """Do it.\n\n    Args:\n        alone: so.\n    """\n'
    )
    page = tmp_path / "page.md"
    page.write_text("It `says` [so](told.md).\n\n```console\n$ echo anew\n```\n\nAnew\n")
    table = tmp_path / "table.toml"
    table.write_text('told = "it lacks \\"two\\""  # a maker\n')
    header = tmp_path / "header.h"
    header.write_text('/* asked\n * of its\n * own */\nint told; // at hand\nchar *s = "for ever";\n')

    assert words.found(words.prose(module)) == [(1, "tells of"), (4, "for # ever"), (6, "is none")]
    assert words.found(words.messages(module)) == [(6, "is none")]
    assert words.found(words.prose(page)) == [(7, "Anew")]
    assert words.found(words.prose(table)) == [(1, "lacks"), (1, "maker")]
    assert words.found(words.prose(header)) == [
        (1, "asked"),
        (2, "of its * own"),
        (4, "at hand"),
        (5, "for ever"),
    ]


def test_sentences_are_counted_by_their_ends(tmp_path: Path) -> None:
    """Code is one word; an item is a sentence, and so is a longer cell."""
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\nOne two `three four`. Five\nsix.\n\n- seven eight\n- nine\n\n| a | b |\n|---|---|\n"
        "| short | a cell that has eight words or more |\n\n```\nnot this one\n```\n"
    )

    assert [len(each.split()) for each in sentences.sentences(page)] == [3, 2, 2, 1, 8]
    assert sentences.average(page) == pytest.approx(16 / 5)
