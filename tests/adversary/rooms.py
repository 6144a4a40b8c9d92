"""Two owners' tables in which every attack has something to find, and the path that an enclave takes."""

from __future__ import annotations

import datetime
import io
import itertools
import random
from collections.abc import Mapping

import duckdb
import polars as pl

from kluis.cleanroom import query
from kluis.cleanroom.agreement.agreement import Dataset, SqlAnalysis
from kluis.cleanroom.agreement.terms import Range, Terms, Use
from kluis.cleanroom.analyses import analysis
from kluis.cleanroom.analyses.noise import Noise
from kluis.cleanroom.data import datasets
from kluis.cleanroom.data.datasets import Stream
from tests.cleanroom import samples

K = 10
NOISE = Noise(b"n" * 32, 1, 1)
ALONE = 1  # the id of the only person aged 97
PEOPLE: dict[str, list[Use]] = {
    "id": ["join"],
    "age": ["aggregate", "filter", "group", "model"],
    "sex": ["filter", "group", "model"],
    "weight": ["aggregate", "model"],
    "status": ["aggregate", "filter", "group", "model"],
    "rare": ["aggregate", "filter"],
    "common": ["aggregate", "filter"],
    "smoker": ["aggregate", "filter", "group", "model"],
    "town": ["filter", "group"],
    "born": ["filter", "group"],
    "wage": ["aggregate", "extrema"],
    "hidden": ["model"],
}
LABS: dict[str, list[Use]] = {
    "id": ["join"],
    "test": ["filter", "model"],
    "day": ["filter", "model"],
    "value": ["aggregate", "filter", "model"],
}
CODES: dict[str, list[Use]] = {
    "id": ["join"],
    "code": ["aggregate", "filter", "group"],
    "mark": ["aggregate", "filter", "group"],
}
RANGES = {
    "age": Range(low="0", high="110", step="1"),
    "weight": Range(low="30", high="200", step="0.1"),
    "status": Range(low="0", high="1", step="1"),
    "rare": Range(low="0", high="1", step="1"),
    "common": Range(low="0", high="1", step="1"),
    "wage": Range(low="0", high="9000", step="1"),
    "value": Range(low="0", high="250", step="0.1"),
    "code": Range(low="0", high="1000000000", step="1"),
    "mark": Range(low="0", high="1", step="1"),
}


def people(seed: int = 1, count: int = 400) -> pl.DataFrame:
    """One row a person: one is 97, one has ``rare`` = 1, one has ``common`` = 0, one lives in Hamlet."""
    pick = random.Random(seed)
    ids = range(1, count + 1)
    return pl.DataFrame(
        {
            "id": list(ids),
            "age": [97 if each == ALONE else 30 + pick.randrange(40) for each in ids],
            "sex": [pick.choice("fm") for _ in ids],
            "weight": [round(pick.gauss(80, 15), 1) for _ in ids],
            "status": [int(pick.random() < 0.3) for _ in ids],
            "rare": [int(each == 7) for each in ids],
            "common": [int(each != 8) for each in ids],
            "smoker": [pick.random() < 0.4 for _ in ids],
            "town": ["Hamlet" if each == 9 else pick.choice(("Aa", "aa", "Bb", "Bb ", None)) for each in ids],
            "born": [datetime.date(1950 + pick.randrange(3), 1, 1) for _ in ids],
            "wage": [float(1000 + each) for each in ids],
            "hidden": [pick.gauss(0, 1) for _ in ids],
        }
    )


def labs(seed: int = 2, count: int = 400) -> pl.DataFrame:
    """Several values a person; the person of ``id`` 11 was never measured, that of 12 has no cholesterol."""
    pick = random.Random(seed)
    rows = [
        (each, test, day, round(pick.gauss(60, 10), 1))
        for each, (test, day) in itertools.product(
            range(1, count + 1), (("hdl", -3), ("hdl", -9), ("chol", -2))
        )
        if each != 11 and (each, test) != (12, "chol")
    ]
    return pl.DataFrame(rows, schema=["id", "test", "day", "value"], orient="row")


def codes(code: Mapping[int, int], mark: Mapping[int, int]) -> pl.DataFrame:
    """A co-owner's table, made to encode who is counted."""
    ids = sorted(code)
    return pl.DataFrame(
        {"id": ids, "code": [code[each] for each in ids], "mark": [mark.get(each, 0) for each in ids]},
        schema={"id": pl.Int64, "code": pl.Int64, "mark": pl.Int64},
    )


def described(name: str, table: pl.DataFrame, uses: dict[str, list[Use]], k: int = K) -> Dataset:
    """A data set as an agreement has it."""
    agreed = Terms(
        privacy_unit="id",
        k_min=k,
        rows_per_person=1 if table["id"].n_unique() == len(table) else 0,
        columns=datasets.columns_of(
            table, uses, {each: RANGES[each] for each in uses if each in RANGES and each in table.columns}
        ),
        expires=samples.LATER,
    )
    agreed.check(name)
    return Dataset(id=name, version=1, owner="clinic", terms=agreed, parts=datasets.describe([b"x"]))


def inputs(tables: Mapping[str, pl.DataFrame], k: int = K) -> tuple[Dataset, ...]:
    """The data sets of some tables."""
    uses = {"people": PEOPLE, "labs": LABS, "codes": CODES}
    return tuple(described(name, table, uses[name], k) for name, table in tables.items())


def asked(text: str, names: tuple[str, ...]) -> SqlAnalysis:
    """A query over some data sets, as an agreement has it."""
    return SqlAnalysis(
        id="attack", question="?", inputs=names, recipients=("clinic",), query=text, max_rows=1000
    )


def answered(
    question: SqlAnalysis, datasets: tuple[Dataset, ...], tables: Mapping[str, pl.DataFrame], k: int = K
) -> list[dict[str, object]]:
    """What leaves, by the path that an enclave takes."""
    padded, _ = analysis.compute(question, datasets, tables, k, NOISE)
    plain = padded[4 : 4 + int.from_bytes(padded[:4])]
    found: list[dict[str, object]] = pl.read_parquet(io.BytesIO(plain)).to_dicts() if plain else []
    return found


def computed(text: str, tables: Mapping[str, pl.DataFrame], k: int = K) -> list[dict[str, object]]:
    """What leaves of tables that are as they are described."""
    return answered(asked(text, tuple(tables)), inputs(tables, k), tables, k)


def raw(text: str, tables: Mapping[str, pl.DataFrame]) -> list[tuple[object, ...]]:
    """What a plain DuckDB answers: what the attack would find."""
    connection = duckdb.connect()
    for name, table in tables.items():
        connection.register(name, Stream(table))
    return connection.execute(text).fetchall()


def refused(text: str, tables: Mapping[str, pl.DataFrame]) -> query.QueryError | None:
    """Why a query is refused; None if it is not."""
    try:
        query.read_groups(text, inputs(tables))
    except query.QueryError as error:
        return error
    return None
