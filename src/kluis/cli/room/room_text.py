"""Format a room's results and receipts as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from kluis.cleanroom.agreement.documents import as_json, decode
from kluis.cleanroom.agreement.shown import WIDTH, fold, is_plain, is_right_to_left, quote
from kluis.cleanroom.receipts import results
from kluis.cleanroom.receipts.receipt import CheckedReceipt
from kluis.cli import render
from kluis.cli.terminal import width
from kluis.errors import foreign
from kluis.views.rooms import receipt_rows

_MOST_CELL: Final = 30  # of a table that a terminal of 80 columns wraps


def about(**texts: str) -> list[str]:
    """Others' texts by what they are, each on a separate line; its next lines are marked.

    A title can be as long as a screen, and has blanks: where a terminal wraps it, it could imitate a line of
    ours.
    """
    return [line for label, text in texts.items() for line in fold(f"  {label:<7}  ", quote(text), "    \\ ")]


def format_result(kind: results.Format, plain: bytes) -> tuple[Any, str]:
    """A result for ``--json`` and for people; None for one without any figure.

    Raises:
        FormatError, UnsupportedError: it is not one: nobody needs to have built the code that made it.
    """
    if not plain:
        return None, "no figures: every group is hidden, or it could not be computed"
    if kind == "parquet":
        from kluis.cleanroom.data.datasets import read_table  # which needs what the extra brings
        from kluis.cleanroom.data.values import check_times

        table = read_table(plain, "result")
        check_times(table, "result")
        rows = [
            tuple(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row)
            for row in table.rows()
        ]
        return table.to_dicts(), _lay_out(rows, tuple(table.columns))
    from kluis.cleanroom.analyses.model import ModelResult  # likewise

    value = cast("dict[str, Any]", as_json(decode(plain, ModelResult, "result")))
    if not value["arms"]:
        return value, "no scores: too few persons have the outcome, or do not"
    rows = [
        (
            each["name"],
            f"{float(each['value']):.3f}",
            f"{float(each['low']):.3f} to {float(each['high']):.3f}",
        )
        for each in (*value["arms"], *value["differences"])
    ]
    return value, _lay_out(rows, ("", "AUC", "95 % interval"))


def _lay_out(rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> str:
    """A table; with text that would not stay in its column, a line for each figure.

    An owner's data has such text. From right to left, a terminal shows the numbers after it in the order of
    other columns. A long one is wrapped, and one with blanks reads as several cells: both imitate figures.
    """
    table = render.table(rows, head)
    cells = [cell for row in rows for cell in row]
    wraps = max(map(width, table.split("\n"))) > WIDTH and any(len(each) > _MOST_CELL for each in cells)
    if not wraps and not any(map(_moves, cells)):
        return table
    column = max(map(len, head))
    return "\n\n".join(
        "\n".join(
            line
            for name, cell in zip(head, row, strict=True)
            for line in fold(f"{name:<{column}}  ", foreign(cell, len(cell)), f"{'':<{column}}\\ ")
        )
        for row in rows
    )


def _moves(cell: str) -> bool:
    """Whether a cell, or what follows it on its line, can be read as other cells."""
    if cell.isascii() and cell.isprintable():  # as nearly all are, of up to a million
        return "  " in cell
    return "  " in cell or is_right_to_left(cell) or not is_plain(cell)


def summary_of(checked: CheckedReceipt, *, limits: bool = True) -> str:
    """What a receipt proves, one line each; and what its level does not prevent."""
    rows = [("ok", name, sentence) for name, sentence in receipt_rows(checked)]
    if not limits:
        return render.table(rows)
    lines = [render.table(rows), f"level {checked.verdict.level}, which does not keep out"]
    return "\n".join([*lines, *(f"      {each}" for each in checked.verdict.result.not_kept_out)])
