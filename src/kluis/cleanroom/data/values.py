"""Prepare values for the engine: a data set's columns under generated names, values as whole steps.

A column with a range becomes the number of steps above its low end, 0 to ``most``: the engine sums whole
numbers, and no value weighs more than its owner declared. Other columns keep their values in one form.
"""

from __future__ import annotations

import datetime
from fractions import Fraction

import polars as pl

from kluis.cleanroom.agreement.agreement import Dataset
from kluis.cleanroom.agreement.terms import Column, Scale
from kluis.cleanroom.data.datasets import check_table
from kluis.errors import FormatError

UNIT = "u"
# Without a zone, as the engine has times.
_LEAST, _MOST = datetime.datetime.min, datetime.datetime.max  # noqa: DTZ901


def column_name(number: int) -> str:
    """The engine's name for the n-th column of a data set's terms."""
    return f"c{number}"


def prepare(table: pl.DataFrame, dataset: Dataset) -> pl.DataFrame:
    """Prepare a table for the engine: the privacy unit, and the columns that allow a use.

    Raises:
        PolicyError: the table does not match the terms.
    """
    check_table(table, dataset.terms, dataset.id)
    columns = [
        _one_form(pl.col(dataset.terms.privacy_unit), table.schema[dataset.terms.privacy_unit]).alias(UNIT)
    ]
    for number, column in enumerate(dataset.terms.columns):
        if column.allow and column.name != dataset.terms.privacy_unit:
            columns.append(_value(column, table.schema[column.name]).alias(column_name(number)))
    return table.select(columns)


def _value(column: Column, kind: pl.DataType) -> pl.Expr:
    value, scale = pl.col(column.name), column.scale
    if scale is None:
        return _one_form(value, kind)
    if column.type == "boolean":
        return value.cast(pl.Int64)
    if column.type == "integer":
        low, step = int(scale.low), int(scale.step)
        inside = value.cast(pl.Int64).clip(low, low + step * scale.most) - low
        return (inside * 2 + step) // (2 * step)
    return _steps(_one_form(value, kind), scale)


def _steps(value: pl.Expr, scale: Scale) -> pl.Expr:
    """The nearest step of each value. Values are rounded one by one: nothing is summed here."""
    low, high = float(scale.low), float(scale.low + scale.step * scale.most)
    return ((value.clip(low, high) - low) / float(scale.step)).round().cast(pl.Int64).clip(0, scale.most)


def _one_form(value: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Normalize each value: no NaN, no -0.0, 64 bits, UTC, years 1 to 9999.

    Any value has a form: one that failed would leave the whole query without figures, for one person.
    """
    if kind.is_float() or kind.is_decimal():
        number = value.cast(pl.Float64).fill_nan(None)
        return pl.when(number == 0).then(0.0).otherwise(number)
    if kind.is_integer():
        return value.cast(pl.Int64)
    if isinstance(kind, pl.Datetime):
        naive = value.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if kind.time_zone else value
        return _within(naive.cast(pl.Datetime("us"), strict=False), _LEAST, _MOST)
    if kind == pl.Date:
        return _within(value, _LEAST.date(), _MOST.date())
    return value


def _within(value: pl.Expr, least: datetime.date, most: datetime.date) -> pl.Expr:
    """The value, or NULL outside the years that Python can express."""
    return pl.when(value.is_between(least, most)).then(value)


def check_times(table: pl.DataFrame, what: str) -> None:
    """Refuse dates and times that Python cannot express, before it is to express one.

    Polars panics over some, and prints where it did.

    Args:
        table: of columns that an agreement can express.
        what: its name for error messages.

    Raises:
        FormatError: one is outside the years 1 to 9999, or has a zone.
    """
    for name, kind in table.schema.items():
        if kind.is_temporal():
            times = table[name].rename("times")
            if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
                raise FormatError(f"{what}: {name[:64]!a}: want times without a zone, got {kind}")
            within = times.to_frame().select(_one_form(pl.col("times"), kind)).to_series()
            if within.null_count() != times.null_count():
                raise FormatError(f"{what}: {name[:64]!a}: want times of the years 1 to 9999, got others")


def value_of(steps: int, scale: Scale) -> Fraction:
    """The value for a number of steps."""
    return scale.low + scale.step * steps
