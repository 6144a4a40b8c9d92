"""Colour is for terminals, repeats what words say, and changes no character of a text."""

from __future__ import annotations

import io
import re

import pytest

from kluis.cli.terminal import paint, width

SGR = re.compile(r"\x1b\[[0-9;]*m")
TEXT = (
    "ok    authentic             SGX quote v3, vouched for by a root\n"
    "FAIL  nonce                 want 0102, got 9f02\n"
    "                            fix: verify again\n"
    "note  debug                 on\n"
    "tier  contraindicated: nonce; protection process\n"
    "okay, notes and FAILures begin no such line [bold]x[/bold] :smile: " + "w" * 300 + "\n"
    "kluis: error: no such file\n"
    "kluis: hint: make it\n"
)


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal of 16 colours."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return Screen()


def test_no_terminal_no_colour() -> None:
    """What goes into a file or a pipe is the text, to the byte."""
    assert paint(TEXT, io.StringIO()) == TEXT


def test_a_dumb_terminal(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal without colours gets the text as well."""
    monkeypatch.setenv("TERM", "dumb")
    assert paint(TEXT, screen) == TEXT


def test_a_failed_check_looks_like_one(screen: Screen) -> None:
    """The whole line of a failed check is red and bold; of a check that holds the word is green."""
    lines = paint(TEXT, screen).split("\n")
    assert lines[1] == "\x1b[1;31mFAIL  nonce                 want 0102, got 9f02\x1b[0m"
    assert lines[0].startswith("\x1b[32mok\x1b[0m    authentic ")
    assert lines[3].startswith("\x1b[33mnote\x1b[0m  debug ")
    assert lines[4].startswith("\x1b[1;31mtier  contraindicated\x1b[0m: nonce")
    assert lines[6].startswith("\x1b[1;31mkluis: error:\x1b[0m no such file")


def test_only_colour_is_added(screen: Screen) -> None:
    """No character is added, lost or folded, and no markup is read; other lines have no colour."""
    shown = paint(TEXT, screen)
    assert SGR.sub("", shown) == TEXT
    assert shown.split("\n")[5] == TEXT.split("\n")[5]
    assert shown.split("\n")[2] == TEXT.split("\n")[2]


def test_no_color(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR there is no colour; a failed check is still bold."""
    monkeypatch.setenv("NO_COLOR", "1")
    shown = paint(TEXT, screen)
    assert set(SGR.findall(shown)) == {"\x1b[1m", "\x1b[0m"}
    assert SGR.sub("", shown) == TEXT


@pytest.mark.parametrize(("text", "columns"), [("", 0), ("abc", 3), ("a\u8a3cb", 4), ("e\u0301", 1)])
def test_width(text: str, columns: int) -> None:
    """Signs of the far east take two columns, and marks on a letter none."""
    assert width(text) == columns
