"""The plain content of a room's folder discloses nothing about a person: not the receipt, no size, no error.

Each attack makes two worlds that differ in one person, and compares everything that a run leaves outside.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars as pl
import pytest

from kluis.cleanroom import query
from kluis.cleanroom.agreement.agreement import Analysis, Arm, Dataset
from kluis.cleanroom.agreement.documents import decode, encode, hash_of
from kluis.cleanroom.analyses import analysis, model
from kluis.cleanroom.analyses.model import ModelResult, Score
from kluis.cleanroom.analyses.noise import Noise
from kluis.cleanroom.data import datasets
from kluis.cleanroom.receipts import results
from kluis.cleanroom.receipts.receipt import Done, ReceiptStatement
from kluis.cleanroom.receipts.results import open_result, pad, size_of
from kluis.errors import AuthenticityError, FormatError
from tests.cleanroom import samples
from tests.cleanroom.platform import Attester, Platform
from tests.cleanroom.running.test_session import Stage

NOISE = Noise(b"n" * 32, 3, 1)


@dataclass
class Outside:
    """What everybody reads of a run: the receipt's words on each analysis, and each result's size."""

    done: list[dict[str, object]]
    sizes: dict[str, int]


def outside(
    folder: Path, monkeypatch: pytest.MonkeyPatch, people: pl.DataFrame, *asked: Analysis
) -> tuple[Outside, dict[str, bytes]]:
    """Run a room over these people; what is seen outside, and what its recipient opens."""
    monkeypatch.setattr(samples, "people", lambda: people)
    platform = Platform(samples.NOW)
    folder.mkdir()
    setting = samples.setting(folder, samples.code(root=platform.root()), asked)
    stage = Stage(platform, setting, Attester(platform))
    _, sealed, file = stage.finished()
    statement = decode(file.receipt.statement, ReceiptStatement, "receipt")
    done = [msgspec.to_builtins(msgspec.structs.replace(each, result="")) for each in statement.analyses]
    opened = {
        name: open_result(data, "clinic", setting.homes["clinic"].sealing)[1] for name, data in sealed.items()
    }
    return Outside(done, {name: len(data) for name, data in sealed.items()}), opened


PEOPLE = samples.people()
GROUPS = msgspec.structs.replace(
    samples.QUERY,
    id="groups",
    inputs=("people",),
    query="SELECT p.age, count(DISTINCT p.id) AS persons FROM people p GROUP BY p.age",
    max_rows=60,
)
# Four persons are of each age; with one more of the target's age, one group of five is shown.
THERE = pl.concat([PEOPLE, PEOPLE.tail(1).with_columns(id=pl.lit(9001, pl.Int64))])


def test_one_person_there_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of k with the target and of k - 1 without: the receipt's words and all sizes are the same."""
    with_, read = outside(tmp_path / "with", monkeypatch, THERE, GROUPS, samples.MODEL)
    without, other = outside(tmp_path / "without", monkeypatch, PEOPLE, GROUPS, samples.MODEL)
    assert with_ == without
    # The two worlds do differ for the recipient, or the test would compare nothing.
    assert pl.read_parquet(io.BytesIO(read["groups"]))["persons"].to_list() == [5]
    assert other["groups"] == b""


def test_a_receipt_follows_from_the_agreement(tmp_path: Path) -> None:
    """Every word on an analysis, but for the hash of what is sealed, can be written before the run."""
    assert Done.__struct_fields__ == ("id", "asked", "executed", "k", "result")
    platform = Platform(samples.NOW)
    setting = samples.setting(tmp_path, samples.code(root=platform.root()))
    stage = Stage(platform, setting, Attester(platform))
    _, _, file = stage.finished()
    statement = decode(file.receipt.statement, ReceiptStatement, "receipt")
    assert [(each.id, each.asked, each.k) for each in statement.analyses] == [
        (each.id, hash_of(each), samples.K) for each in setting.agreement.analyses
    ]


FAILURES = {
    "overflow": "9223372036854775807 + CASE WHEN {hit} THEN 1 ELSE 0 END",
    "conversion": "CAST(CASE WHEN {hit} THEN 'Alice' ELSE '1' END AS INTEGER)",
    "error": "CASE WHEN {hit} THEN error('it is so') ELSE 1 END",
}
ROWS, TABLE = analysis.Engine.rows, analysis.Engine.table


def described() -> tuple[Dataset, ...]:
    """The two data sets as an agreement has them."""
    return tuple(
        samples.dataset(name, "clinic", table, uses, b"k" * 32)[0]
        for name, table, uses in (
            ("people", PEOPLE, samples.PEOPLE_USES),
            ("labs", samples.labs(), samples.LABS_USES),
        )
    )


@pytest.mark.parametrize("kind", ["sql", "logistic"])
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_search_by_errors(
    failure: str, kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Person 7's wage is 1007. A statement that fails if it is above a bound looks the same outside."""
    inputs = {"people": PEOPLE, "labs": samples.labs()}
    asked: Analysis = samples.MODEL if kind == "logistic" else samples.QUERY
    seen = set()
    fails = 0
    for bound in (900, 1006, 1007, 1200):
        cell = failure.format(hit=f"p.id = 7 AND p.wage > {bound}")

        # What the rules on queries refuse, let through whatever they are.
        def first(cell: str = cell) -> None:
            TABLE(analysis.Engine({"people": PEOPLE}), f"SELECT max({cell}) AS x FROM people p")

        monkeypatch.setattr(analysis.Engine, "rows", lambda *given: (first(), ROWS(*given))[1])
        monkeypatch.setattr(analysis.Engine, "table", lambda *given: (first(), TABLE(*given))[1])
        padded, _ = analysis.compute(asked, described(), inputs, samples.K, NOISE)
        seen.add(len(padded))
        fails += padded[:4] == bytes(4)
    assert len(seen) == 1
    assert 0 < fails < 4
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error",
    [ValueError("Alice"), MemoryError(), pl.exceptions.PanicException("Alice"), RecursionError()],
    ids=["value", "memory", "panic", "recursion"],
)
def test_an_error_that_nobody_thought_of(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a library raises over the data is a result without figures, and no error outside."""

    def raises(*args: object) -> None:
        raise error

    monkeypatch.setattr(model, "run", raises)
    inputs = {"people": PEOPLE, "labs": samples.labs()}
    padded, _ = analysis.compute(samples.MODEL, described(), inputs, samples.K, NOISE)
    assert padded == bytes(size_of(samples.MODEL))


def test_more_rows_than_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row too many, or one value that is very long: the same outside as none."""
    asked = msgspec.structs.replace(samples.QUERY, max_rows=2)
    inputs = {"people": PEOPLE, "labs": samples.labs()}
    sizes, figures = set(), []
    for names in ([], ["a"], ["a", "b"], ["a", "b", "c"], ["".join(map(str, range(100_000)))]):
        rows = [(name, 7, 1.0) for name in names]
        monkeypatch.setattr(query, "rows", lambda groups, release, rows=rows: rows)
        padded, _ = analysis.compute(asked, described(), inputs, samples.K, NOISE)
        sizes.add(len(padded))
        figures.append(padded[:4] != bytes(4))
    assert (len(sizes), figures) == (1, [False, True, True, False, False])


def test_the_largest_result_fits() -> None:
    """What the agreement allows is not larger than the size that follows from it."""
    names = tuple(f"{number}" + '"' * 3999 for number in range(8))
    asked = msgspec.structs.replace(
        samples.MODEL,
        arms=tuple(Arm(name=name, predictors=("age",)) for name in names),
        compare=tuple((first, second) for first in names for second in names),
    )
    scores = [Score(name=name, value="-0.123", low="-0.123", high="-0.123") for name in names]
    pairs = [Score(name=f"{a} - {b}", value="-0.123", low="-0.123", high="-0.123") for a, b in asked.compare]
    most = ModelResult(
        persons=10**9, with_outcome=10**9, folds=20, arms=tuple(scores), differences=tuple(pairs)
    )
    assert pad(encode(most), size_of(asked))[:4] != bytes(4)
    out = io.BytesIO()
    pl.DataFrame({name: [f"{name}{row:040}" for row in range(10)] for name in "abc"}).write_parquet(out)
    assert pad(out.getvalue(), size_of(samples.QUERY, 3))[:4] != bytes(4)


@pytest.mark.parametrize(
    "padded", [b"", b"\0\0\0", b"\0\0\0\2x", b"\0\0\0\1xy"], ids=["empty", "short", "beyond", "not zeros"]
)
def test_padding_that_is_not_ours(padded: bytes, tmp_path: Path) -> None:
    """A recipient refuses a result whose padding could carry something."""
    setting = samples.setting(tmp_path)
    party = setting.agreement.party("clinic")
    sealed = results.seal_result(padded, "11" * 32, "22" * 32, "death", "json", (party,))
    with pytest.raises(FormatError) as caught:
        open_result(sealed, "clinic", setting.homes["clinic"].sealing)
    assert caught.value.message == "result death: want a size, a result and zeros"


def test_a_data_set_that_does_not_fit(tmp_path: Path) -> None:
    """Other columns, a missing unit, no Parquet: the host reads one message, and nothing of what is in it."""
    setting = samples.setting(tmp_path)
    agreed = setting.agreement.dataset("people")
    said = set()
    for table in (
        PEOPLE.drop("secret"),
        PEOPLE.with_columns(age=pl.col("age").cast(pl.String)),
        PEOPLE.with_columns(id=pl.when(pl.col("id") > 1).then("id")),
        PEOPLE.rename({"secret": "ALICE"}),
    ):
        out, prefix = io.BytesIO(), datasets.aad_prefix(samples.ROOM, "people", 1, 0, agreed.terms)
        encryption = pl.ParquetEncryptionProperties(
            footer_key=b"k" * 32, aad_prefix=prefix, store_aad_prefix=False
        )
        table.write_parquet(out, encryption=encryption)
        out.write(datasets.commitment(b"k" * 32, prefix))
        with pytest.raises(AuthenticityError) as caught:
            datasets.open_parts([out.getvalue()], b"k" * 32, samples.ROOM, agreed)
        said.add((caught.value.message, caught.value.code, caught.value.__cause__, caught.value.__context__))
    assert said == {("data set people: cannot be opened as the agreement has it", "dataset", None, None)}
