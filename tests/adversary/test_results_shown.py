"""A result as its recipient reads it: an owner chooses the text of a group, and no figure's place."""

from __future__ import annotations

import datetime
import io
import unicodedata

import polars as pl
import pytest

from kluis.cleanroom.agreement.documents import encode
from kluis.cleanroom.analyses.model import ModelResult, Score
from kluis.cli.room.room_text import format_result
from kluis.errors import FormatError

HEBREW, ARABIC, DIGITS = "\u05d0\u05d1", "\u0639\u0645", "\u0661\u0662"


def numbers_after(text: str) -> list[str]:
    """The lines on which a figure follows a letter from right to left: a terminal turns the two around."""
    found = []
    for line in text.splitlines():
        kinds = [unicodedata.bidirectional(each) for each in line]
        turned = [place for place, each in enumerate(kinds) if each in ("R", "AL", "AN")]
        if turned and "EN" in kinds[turned[0] :]:
            found.append(line)
    return found


@pytest.mark.parametrize("town", [HEBREW, ARABIC, DIGITS, f"a {HEBREW}"])
def test_groups_of_a_query(town: str) -> None:
    """Persons and deaths of a town are each on a line of their own, under their names."""
    out = io.BytesIO()
    pl.DataFrame({"town": [town, "Aa"], "persons": [90, 70], "died": [10, 20]}).write_parquet(out)
    _, text = format_result("parquet", out.getvalue())
    assert numbers_after(text) == []
    rest = "persons 90 died 10 town Aa persons 70 died 20"
    assert text.split() == f"town {town} {rest}".split()


def test_arms_of_a_model() -> None:
    """Nor are a score and an end of its interval turned around."""
    score = Score(name=HEBREW, value="0.700", low="0.600", high="0.800")
    result = ModelResult(persons=400, with_outcome=100, folds=3, arms=(score,), differences=())
    _, text = format_result("json", encode(result))
    assert numbers_after(text) == []
    assert text.splitlines()[1:] == ["AUC            0.700", "95 % interval  0.600 to 0.800"]


def test_other_results_are_a_table() -> None:
    """A row is a line where nothing is written from right to left."""
    out = io.BytesIO()
    pl.DataFrame({"town": ["Aa", "\u00e9"], "persons": [90, 70]}).write_parquet(out)
    _, text = format_result("parquet", out.getvalue())
    assert text == "town  persons\nAa    90\n\u00e9     70"


FAR = 9 * 10**18


@pytest.mark.parametrize(
    "times",
    [
        pl.Series([10**7], dtype=pl.Int32).cast(pl.Date),
        pl.Series([-(10**7), None], dtype=pl.Int32).cast(pl.Date),
        pl.Series([FAR]).cast(pl.Datetime("us")),
        pl.Series([FAR]).cast(pl.Datetime("ms")),
        pl.Series([FAR]).cast(pl.Datetime("us", "Europe/Amsterdam")),
    ],
    ids=lambda times: str(times.dtype),
)
def test_a_time_that_nobody_can_write(times: pl.Series, capfd: pytest.CaptureFixture[str]) -> None:
    """One in a result of other code is an error of ours: polars would panic over it, and print where."""
    out = io.BytesIO()
    pl.DataFrame({"^when$": times}).write_parquet(out)
    with pytest.raises(FormatError) as caught:
        format_result("parquet", out.getvalue())
    assert caught.value.message.startswith("result: '^when$': want times ")
    assert capfd.readouterr() == ("", "")


def test_the_times_that_a_query_publishes() -> None:
    """Groups of a date, a time, and of a missing one are shown."""
    first, last = datetime.datetime.min, datetime.datetime.max
    out = io.BytesIO()
    pl.DataFrame({"born": [first.date(), None], "at": [last, first]}).write_parquet(out)
    _, text = format_result("parquet", out.getvalue())
    times = ["0001-01-01  9999-12-31 23:59:59.999999", "None        0001-01-01 00:00:00"]
    assert text.splitlines()[1:] == times
