"""Format a room's results and receipts as text."""

from __future__ import annotations

import io
from typing import Any, cast

import msgspec

from kluis.cleanroom.receipts import results
from kluis.cleanroom.receipts.receipt import CheckedReceipt
from kluis.cli import render
from kluis.views.rooms import receipt_rows


def format_result(kind: results.Format, plain: bytes) -> tuple[Any, str]:
    """A result for ``--json`` and for people; None for one without any figure."""
    if not plain:
        return None, "no figures: every group is hidden, or it could not be computed"
    if kind == "parquet":
        import polars as pl  # which the extra brings

        table = pl.read_parquet(io.BytesIO(plain))
        rows = [
            tuple(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row)
            for row in table.rows()
        ]
        return table.to_dicts(), render.table(rows, tuple(table.columns))
    value = cast("dict[str, Any]", msgspec.json.decode(plain))
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
    return value, render.table(rows, ("", "AUC", "95 % interval"))


def summary_of(checked: CheckedReceipt, *, limits: bool = True) -> str:
    """What a receipt proves, one line each; and what its level does not prevent."""
    rows = [("ok", name, sentence) for name, sentence in receipt_rows(checked)]
    if not limits:
        return render.table(rows)
    lines = [render.table(rows), f"level {checked.verdict.level}, which does not keep out"]
    return "\n".join([*lines, *(f"      {each}" for each in checked.verdict.result.not_kept_out)])
