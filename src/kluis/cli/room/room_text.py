"""Format a room's results and receipts as text."""

from __future__ import annotations

import io
from typing import Any, cast

import msgspec

from kluis.cleanroom import budget, results
from kluis.cleanroom.receipt import CheckedReceipt
from kluis.cli import render


def shown(kind: results.Format, plain: bytes) -> tuple[Any, str]:
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


def told(checked: CheckedReceipt, *, limits: bool = True) -> str:
    """What a receipt proves, one line each; and what its level does not prevent."""
    statement, verdict = checked.statement, checked.verdict
    rows = [
        ("ok", "agreement", f"{statement.agreement[:32]}.., signed by all {len(checked.agreement.parties)}"),
        ("ok", "code", f"measured {verdict.measured[:32]}.., the image that was agreed"),
        ("ok", "evidence", f"{len(verdict.rules)} rules met, as of {statement.time:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    for consent in checked.consents:
        what = ", ".join(key.dataset for key in consent.keys)
        rows.append(("ok", "consent", f"{consent.party} released {what} at {consent.time:%H:%M:%S}"))
    rows += [
        ("ok", "input", f"{used.dataset} version {used.version}, sha256 {used.parts[0][:16]}..")
        for used in statement.inputs
    ]
    for done in statement.analyses:
        rows.append(("ok", "result", f"{done.id}: groups of fewer than {done.k} persons are not shown"))
    agreed = checked.agreement
    rows.append(
        (
            "ok",
            "output",
            f"at most {budget.total_figures(agreed)} figures, limit {budget.most_figures(agreed)}",
        )
    )
    if not limits:
        return render.table(rows)
    lines = [render.table(rows), f"level {verdict.level}, which does not keep out"]
    return "\n".join([*lines, *(f"      {each}" for each in verdict.result.not_kept_out)])
