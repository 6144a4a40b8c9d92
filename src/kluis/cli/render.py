"""Print the command line's output: data to stdout, everything else to stderr, an exit code by the kind of
error.

A command calls ``out(value, text)`` once; with ``--json``, which every command has, the value is printed,
else the text. Colour only repeats what words state.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import msgspec
import typer

from kluis.cli.terminal import paint, width
from kluis.errors import KluisError, UsageError, foreign
from kluis.views.printable import harmless

_BEGUN: Final = re.compile(r"\n(?=\S)")
# Space between two columns.
_GAP: Final = re.compile(r"(?<=\S) {2,}(?=\S)")
_WORD: Final = re.compile(r"\s*\S+")


@dataclass
class _Mode:
    json: bool = False


_mode = _Mode()


def _ask_json(value: bool) -> bool:
    if value:
        _mode.json = True
    return value


Json = Annotated[bool, typer.Option("--json", callback=_ask_json, is_eager=True, help="Print JSON.")]
"""The option ``--json``, which :func:`kluis.cli.main.load` gives to every command."""


def wants_json() -> bool:
    """Return whether ``--json`` was given anywhere on the command line."""
    return _mode.json


def reset(*, json: bool = False) -> None:
    """Reset the state for a new command line: text unless ``json``."""
    _mode.json = json


def out(value: Any, text: str) -> None:
    """Print the result to stdout.

    Args:
        value: what ``--json`` prints; anything msgspec can write.
        text: what a person reads, without the last newline.
    """
    line = msgspec.json.format(_json(value), indent=2).decode() if _mode.json else text
    sys.stdout.write(_make_printable(line, sys.stdout) + "\n")
    sys.stdout.flush()


def out_row(value: Any, text: str) -> None:
    """Print one of many results to stdout, at once: with ``--json`` one line of JSON, else the text."""
    sys.stdout.write(_make_printable(_json(value).decode() if _mode.json else text, sys.stdout) + "\n")
    sys.stdout.flush()


def _make_printable(text: str, stream: TextIO) -> str:
    return harmless(text, json.dumps) if _mode.json else paint(harmless(text), stream)


def _json(value: Any) -> bytes:
    """JSON, in which lone surrogates, as in a file name that is not UTF-8, are escaped."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_whole(msgspec.to_builtins(value)))


def _whole(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_whole(key): _whole(each) for key, each in value.items()}
        case list():
            return list(map(_whole, value))
        case _:
            return value


def note(text: str) -> None:
    """Print a message for the person to stderr; it is never part of the result.

    A message of one line is folded to a terminal's width; one of several has its own layout.
    """
    if "\n" not in text:
        text = fold(text, sys.stderr)
    sys.stderr.write(_make_printable(text, sys.stderr) + "\n")
    sys.stderr.flush()


def give(value: Any, text: str, output: Path | None) -> None:
    """Print a document, or write it to a file.

    Args:
        value: what ``--json`` prints.
        text: the document.
        output: the file; None for stdout.
    """
    if output is None:
        out(value, text.rstrip("\n"))
        return
    save(output, text.encode())
    note(f"written: {output}")


def report(text: str) -> None:
    """Print a message like :func:`note`; a full disk or a closed pipe ends no service."""
    with contextlib.suppress(OSError):
        note(text)


def save(path: Path, data: bytes, *, must_be_new: bool = False) -> None:
    """Write a file in place: a device or a link stays what it is, and a file keeps its mode.

    If the disk is full, no part of a new file is left.

    Args:
        path: where.
        data: its bytes.
        must_be_new: whether the path must be free; even a dangling link is refused.

    Raises:
        UsageError: it cannot be written.
    """
    if path == Path("-"):  # as other commands name it, which would leave a file of that name
        raise UsageError("-: want the name of a file to write, got standard output's")
    made = False
    try:
        try:
            file = path.open("xb")
            made = True
        except FileExistsError:
            if must_be_new:
                raise
            file = path.open("wb")
        with file:
            file.write(data)
    except OSError as error:
        if made:
            path.unlink(missing_ok=True)
        raise UsageError(
            f"{path}: cannot be written: {error.strerror}",
            hint=None if path.parent.is_dir() else f"mkdir -p {path.parent}",
        ) from None


def fold(text: str, stream: TextIO | None = None) -> str:
    """Fold lines to the terminal's width and indent continuations to where the text begins; elsewhere
    unchanged.

    A word that does not fit there, such as a digest, gets its own line, and is never cut: if it is still too
    long, the terminal wraps it, so that it can be copied whole.

    Args:
        text: of lines.
        stream: where it goes; stdout by default.
    """
    if _mode.json or not (stream or sys.stdout).isatty():
        return text
    return fold_always(text)


def fold_always(text: str) -> str:
    """Fold lines like :func:`fold`, and to 80 columns if there is no terminal: for text that only people
    read.
    """
    columns = shutil.get_terminal_size().columns
    return "\n".join(_fold(line, columns) for line in text.split("\n"))


def _fold(line: str, columns: int) -> str:
    line = line.rstrip()
    if width(line) <= columns:
        return line
    margin = len(line) - len(line.lstrip())
    begins = [gap.end() for gap in _GAP.finditer(line, margin, columns * 2 // 3)]
    label = line[: begins[-1] if begins else margin]
    column = width(label)
    lines = _wrap_words(line[len(label) :], columns, column, column if begins else margin + 2)
    whole = [each if width(each) <= columns else _alone(each.strip(), margin, columns) for each in lines]
    if whole[0] == lines[0]:
        return "\n".join([label + whole[0][column:], *whole[1:]])
    return "\n".join([label.rstrip(), *whole] if label.strip() else whole)


def _alone(word: str, margin: int, columns: int) -> str:
    """A word on its own line, indented by two columns, or less if only that keeps it whole."""
    room = columns - width(word)
    return " " * (margin + 2 if room < 0 else min(margin + 2, room)) + word


def _wrap_words(text: str, columns: int, first: int, later: int) -> list[str]:
    """Lines of whole words, indented by that many columns; no line begins with a blank."""
    lines: list[str] = []
    taken = columns
    for word in _WORD.findall(text):
        taken += width(word)
        if lines and taken <= columns:
            lines[-1] += word
        else:
            lines.append(" " * (later if lines else first) + word.lstrip())
            taken = width(lines[-1])
    return lines


def _set_in(text: str) -> str:
    """Text whose later lines cannot imitate ours: a file's name may contain anything."""
    return _BEGUN.sub("\n  ", text)


def table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...] | None = None) -> str:
    """Lay out rows in columns, each as wide as its widest cell, two spaces apart; a row is one line."""
    lines = [[foreign(cell, len(cell)) for cell in row] for row in ([head, *rows] if head else rows)]
    if not lines:
        return ""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(most) for cell, most in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def fit_table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> str:
    """A table, or, if the terminal is too narrow, a block for each row with a line for each column."""
    whole = table(rows, head)
    if _mode.json or not sys.stdout.isatty():
        return whole
    if max(map(width, whole.split("\n"))) <= shutil.get_terminal_size().columns:
        return whole
    return "\n\n".join(
        table([(name, cell) for name, cell in zip(head, row, strict=True) if cell]) for row in rows
    )


def error(fault: KluisError) -> int:
    """Print an error, its hint and its code to stderr.

    Returns:
        The exit code of its kind.
    """
    hint = fault.hint or _fix(fault.code)
    if _mode.json:
        value = {"error": fault.message, "code": fault.code, "hint": hint, "exit_code": fault.exit_code}
        note(_json(value).decode())
    else:
        note(fold(_set_in(f"kluis: error: {fault.message}"), sys.stderr))
        if hint:
            note(fold(_set_in(f"kluis: hint: {hint}"), sys.stderr))
        note(f"kluis: code: {fault.code} (kluis explain {fault.code})")
    return fault.exit_code


def report_error(fault: KluisError) -> None:
    """Print an error like :func:`error`; a full disk or a closed pipe ends no service."""
    with contextlib.suppress(OSError):
        error(fault)


def _fix(code: str) -> str | None:
    """The fix of the error's code, if the error has no hint; a class's default code is too general for
    one.
    """
    from kluis.cli import codes  # needed only for an error

    try:
        entry = codes.find(code)
    except KluisError:
        return None
    return None if entry.group == "general" else entry.fix
