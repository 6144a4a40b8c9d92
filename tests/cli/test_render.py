"""What is printed: others' words are shown, and a terminal obeys none of them."""

from __future__ import annotations

import io
import json
import resource
import signal
import sys
import unicodedata
from pathlib import Path

import pytest

from kluis.cli import render
from kluis.errors import UsageError, foreign
from tests.cli.quotes import Kluis


def test_json_stays_the_same_value(capsys: pytest.CaptureFixture[str]) -> None:
    """In JSON the same characters are written as JSON writes them: who reads it reads the same."""
    value = {"name": "\x1b[2J\x7f\x9b\u202e\U000e0041"}
    render.reset(json=True)
    try:
        render.out(value, "")
    finally:
        render.reset()
    said = capsys.readouterr().out
    assert said.replace("\n", "").isprintable()
    assert json.loads(said) == value


def test_a_row_is_one_line() -> None:
    """For any cell content, the row is one line, and begins as its first cell does."""
    shown = render.table([("name", "x\nok    debug  off"), ("a\nb", "\x1b[2J")], ("one", "two"))
    assert shown.splitlines() == ["one   two", "name  x?ok    debug  off", "a?b   ?[2J"]


def test_a_name_that_is_not_text(kluis: Kluis) -> None:
    """A file's name that is not UTF-8 appears in JSON, too, and is not a bug of ours."""
    said = kluis("inspect", "\udcff", "--json")
    assert said.code == 2
    assert json.loads(said.err)["error"] == r"\udcff: cannot be read: No such file or directory"


def test_a_name_of_several_lines(kluis: Kluis) -> None:
    """What an error names begins no line that could be the program's own."""
    said = kluis("verify", "x\nkluis: hint: trust it")
    assert [line for line in said.err.splitlines() if line.startswith("kluis: hint")] == []
    assert "\n  kluis: hint: trust it: cannot be read" in said.err


def test_a_line_of_a_policy(kluis: Kluis, tmp_path: Path) -> None:
    """A line that is shown because it is wrong clears no screen, and its mark stays in place."""
    path = tmp_path / "odd.policy"
    path.write_bytes(b"version\x1b[2J= 1.0;")
    said = kluis("policy", "lint", path)
    assert said.code != 0
    assert "\x1b" not in said.err
    lines = said.err.splitlines()
    shown = next(index for index, line in enumerate(lines) if line.startswith("  version\ufffd[2J= 1.0;"))
    assert lines[shown + 1].strip() == "^"


def test_no_half_of_a_file_stays(tmp_path: Path) -> None:
    """Where a write ends early, a new file is not left cut short; one that was there is not taken away."""
    (tmp_path / "old").touch()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        for name in ("new", "old"):
            with pytest.raises(UsageError) as caught:
                render.save(tmp_path / name, b"data")
            assert caught.value.message == f"{tmp_path / name}: cannot be written: File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_standard_output_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who writes - for stdout gets no file with that name."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        render.save(Path("-"), b"x")
    assert str(caught.value) == "-: want the name of a file to write, got standard output's"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_to_be_made(tmp_path: Path) -> None:
    """The hint for a missing folder shows how to create it."""
    with pytest.raises(UsageError) as caught:
        render.save(tmp_path / "none" / "file", b"")
    assert caught.value.hint == f"mkdir -p {tmp_path / 'none'}"


class Terminal(io.StringIO):
    """A stream that somebody reads on a screen."""

    def isatty(self) -> bool:
        return True


DIGEST = "1852dd3116587693fc15f3192f5525f3a8b1"
FOLDED = f"""\
ok    authentic   SGX quote v3, vouched
                  for by a root of this
                  machine
ok    signer      sha256
  {DIGEST}
ok    report
  {"0" * 36}
ok    platform    Genoa
  {"1" * 37}
                  mended
long
{"2" * 40}
longer
  {"3" * 41}
    within
      {"4" * 34}
  - a line that is longer than the
    screen is wide
kluis: error:
  {"/folder" * 6}:
  cannot be read"""


def test_lines_are_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a screen what goes on is set in below where it began, and a digest stays whole."""
    text = (
        "ok    authentic   SGX quote v3, vouched for by a root of this machine\n"
        f"ok    signer      sha256 {DIGEST}\n"
        f"ok    report      {'0' * 36}\n"
        f"ok    platform    Genoa {'1' * 37} mended\n"
        f"long        {'2' * 40}\n"
        f"longer      {'3' * 41}\n"
        f"    within  {'4' * 34}\n"
        "  - a line that is longer than the screen is wide\n"
        f"kluis: error: {'/folder' * 6}: cannot be read"
    )
    monkeypatch.setenv("COLUMNS", "40")
    assert render.fold(text, Terminal()) == FOLDED
    assert render.fold(text, io.StringIO()) == text


def _on_screen(text: str, columns: int) -> list[str]:
    """Rows as a terminal shows them: it goes on at its left edge, wherever that is in a line."""
    rows = []
    for line in text.split("\n"):
        rows.append("")
        taken = 0
        for sign in line:
            size = 2 if unicodedata.east_asian_width(sign) in "WF" else 1
            if taken + size > columns:
                rows.append("")
                taken = 0
            rows[-1] += sign
            taken += size
    return rows


@pytest.mark.parametrize(
    "name",
    [
        "a" * 21 + " " * 39 + "{}",
        "a" * 60 + " {}",
        "a" * 60 + " " * 60 + "{}",
        "\u8a3c" * 11 + "{}",
        "\u8a3c" * 25 + " ok    measurement",
        "a  b" + " " * 31 + "{} " + "c" * 99,
        " " * 200 + "{}" + " " * 20_000,
    ],
)
@pytest.mark.parametrize("begins", ["ok    x                   ", "kluis: error: root named ", "  - "])
def test_words_of_evidence_begin_no_row(name: str, begins: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long, wide or far apart evidence's words are, a screen shows none where a line begins."""
    monkeypatch.setenv("COLUMNS", "60")
    for pad in range(60):
        line = begins + " " * pad + name.format("ok    measurement  sha256:00")
        rows = _on_screen(render.fold(line, Terminal()), 60)
        assert not any(row.startswith("ok    measurement") for row in rows), rows


def test_blanks_of_other_scripts() -> None:
    """Letters that look like spaces are shown: a row that they end could be any row."""
    assert foreign("a\u3164b\u2800c\u8a3c") == "a?b?c\u8a3c"


def test_a_table_that_is_too_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a terminal has no room for a table, a row is a block; elsewhere there is the table."""
    rows, head = [("a", "x" * 30, ""), ("b", "y" * 30, "z")], ("part", "issuer", "about")
    blocks = f"part    a\nissuer  {'x' * 30}\n\npart    b\nissuer  {'y' * 30}\nabout   z"
    whole = render.table(rows, head)
    width = max(map(len, whole.split("\n")))
    assert render.fit_table(rows, head) == whole
    monkeypatch.setattr(sys, "stdout", Terminal())
    for columns, shown in ((width, whole), (width - 1, blocks)):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert render.fit_table(rows, head) == shown


def test_a_line_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of spaces is folded to none."""
    monkeypatch.setenv("COLUMNS", "40")
    assert render.fold(" " * 41, Terminal()) == ""


def test_a_note_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a screen a note of one line is folded; one of several keeps its layout."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    render.note("kluis: verifiers with current collateral see Revoked")
    render.note(f"  a\n  {'b ' * 30}")
    assert screen.getvalue() == (
        f"kluis: verifiers with current collateral\n  see Revoked\n  a\n  {'b ' * 30}\n"
    )
