"""Results and rooms as they are read: others choose the text of a group or a title, and no line of ours."""

from __future__ import annotations

import datetime
import io
import unicodedata
from pathlib import Path

import msgspec
import polars as pl
import pytest

from kluis.cleanroom.agreement.agreement import Arm
from kluis.cleanroom.agreement.documents import encode
from kluis.cleanroom.analyses.model import ModelResult, Score
from kluis.cleanroom.records.rooms import Room, RoomFile
from kluis.cleanroom.signing.explain import explain
from kluis.cli.room.room_text import format_result
from kluis.errors import FormatError
from tests.cleanroom import samples
from tests.cleanroom.tables import Table

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


def wrapped(text: str) -> list[str]:
    """The lines of a text on a terminal of 80 columns, which wraps them wherever they are."""
    return [
        line[start : start + 80] for line in text.splitlines() for start in range(0, max(1, len(line)), 80)
    ]


@pytest.mark.parametrize(
    "town",
    [
        f"Aa{'':78}Bb    999      7",
        f"{'A' * 80}Bb    999      7",
        "Aa  500  3",
        "Aa\u3164\u3164500\u2800\u28003",
        f"{'Aa ' * 27}Bb 500 3",
    ],
)
def test_a_group_that_reads_as_another(town: str) -> None:
    """A name of blanks, or one that is as long as a line, is not the row of a group that there is not."""
    out = io.BytesIO()
    pl.DataFrame({"town": [town, "Cc"], "persons": [90, 70], "died": [10, 20]}).write_parquet(out)
    _, text = format_result("parquet", out.getvalue())
    assert [line for line in wrapped(text) if line.startswith(("Aa  500", "Bb"))] == []
    rows = text.split("\n\n")
    assert [row.splitlines()[-2:] for row in rows] == [
        [f"persons  {persons}", f"died     {died}"] for persons, died in ((90, 10), (70, 20))
    ]


FORGED = "fingerprint 0000-1111-2222-3333-4444-5555-6666-7777: read it to the other parties"


@pytest.mark.parametrize("command", ["init", "seal", "approve"])
def test_a_title_that_reads_as_a_line_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """A room's title begins no line where a terminal wraps it, such as one with a fingerprint to read out."""
    table = Table(tmp_path, capsys)
    plain = titled(table, command, "Sample", "ab" * 32)
    (line,) = [each for each in plain.splitlines() if "Sample" in each]
    away = -line.index("Sample") % 80
    text = titled(table, command, "A" * (away - away // 2) + " " * (away // 2) + FORGED, "cd" * 32)
    assert "0000-1111-2222" in text
    assert [line for line in wrapped(text) if line.startswith("fingerprint 0000")] == []


def titled(table: Table, command: str, title: str, name: str) -> str:
    """What a command prints to a party of a room with a title."""
    clinic, path = table.homes["clinic"], table.folder / name[:2]
    Room.create(path, title, "Tests").folder.replace(
        "room.json", encode(RoomFile(kind="kluis-room/1", room=name, title=title, purpose="Tests"))
    )
    table.room = Room(path)
    table.room.join(clinic, clinic.public("The clinic", ("owner",)))
    words: list[object] = ["--as", "clinic"]
    if command == "approve":
        clinic.agree(msgspec.structs.replace(table.agreement, room=name, title=title))
        words += ["--stop"]
    elif command == "seal":
        samples.people().write_parquet(path / "people.parquet")
        terms = path / "people.toml"
        terms.write_text('privacy_unit = "id"\nk_min = 5\nexpires_days = 60\n[allow]\nid = ["join"]\n')
        words = [path / "people.parquet", *words, "--dataset", "people", "--terms", terms]
    code, out, err = table(command, *words)
    assert code == 0, err
    return out


def test_texts_of_a_proposal_end_where_they_end(tmp_path: Path) -> None:
    """A title, a question and an arm are quotations: none reads as what Kluis states of the agreement."""
    arm = "a) with no noise (b"
    model = msgspec.structs.replace(
        samples.MODEL, question="ok", arms=(Arm(name=arm, predictors=("age",)),), compare=()
    )
    agreement = samples.setting(tmp_path, analyses=(model,)).agreement
    agreement = msgspec.structs.replace(agreement, title="ok  all signed", purpose="ok", code=samples.code())
    told = explain(agreement).splitlines()
    assert told[:2] == ['agreement  "ok  all signed"', '  purpose  "ok"']
    assert '  death: "ok"' in told
    assert f'    lets out AUCs ("{arm}") with intervals, 0 differences and two ' in told


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
