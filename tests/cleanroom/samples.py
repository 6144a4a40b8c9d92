"""A small room of two owners, made for tests: a clinic with people, a laboratory with values."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from kluis.cleanroom.agreement import fingerprint
from kluis.cleanroom.agreement.agreement import (
    Agreement,
    Analysis,
    Arm,
    Code,
    Dataset,
    Measurement,
    ModelAnalysis,
    SignedAgreement,
    SqlAnalysis,
    sign,
)
from kluis.cleanroom.agreement.documents import encode, hash_of
from kluis.cleanroom.agreement.terms import Range, Terms, Use
from kluis.cleanroom.data import datasets
from kluis.cleanroom.records.home import DataKey, Home
from kluis.cleanroom.records.trust import Trust

NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.UTC)
LATER = NOW + datetime.timedelta(days=30)
ROOM = "7f" * 32
K = 5

PEOPLE_USES: dict[str, list[Use]] = {
    "id": ["join"],
    "age": ["aggregate", "group", "filter", "model"],
    "sex": ["group", "model"],
    "died": ["aggregate", "filter", "model"],
    "wage": ["aggregate", "extrema"],
}
LABS_USES: dict[str, list[Use]] = {
    "id": ["join"],
    "test": ["filter"],
    "day": ["filter", "model"],
    "value": ["aggregate", "model"],
}

RANGES = {
    "age": Range(low="0", high="120", step="1"),
    "died": Range(low="0", high="1", step="1"),
    "wage": Range(low="0", high="2000", step="0.5"),
    "value": Range(low="0", high="100", step="0.5"),
}


def people(count: int = 200) -> pl.DataFrame:
    """One row a person; a third die, the old more often."""
    ids = range(1, count + 1)
    return pl.DataFrame(
        {
            "id": list(ids),
            "age": [30 + each % 50 for each in ids],
            "sex": ["f" if each % 2 else "m" for each in ids],
            "died": [int(each % 50 + (each * 7) % 23 > 48) for each in ids],
            "wage": [1000.0 + each for each in ids],
            "secret": [f"SECRET-{each}" for each in ids],
        }
    )


def labs(count: int = 200) -> pl.DataFrame:
    """Two values a person, but for every seventh, who was never measured."""
    rows = [
        (each, test, day, float(20 + each % 11 + day + (5 if test == "hdl" else 0)))
        for each in range(1, count + 1)
        if each % 7
        for test, day in (("hdl", -3), ("chol", -2))
    ]
    return pl.DataFrame(rows, schema=["id", "test", "day", "value"], orient="row")


def terms(table: pl.DataFrame, uses: dict[str, list[Use]], k_min: int = K) -> Terms:
    """Terms that allow the uses in ``uses``."""
    ranges = {name: RANGES[name] for name in uses if name in RANGES and name in table.columns}
    return Terms(
        privacy_unit="id",
        k_min=k_min,
        rows_per_person=1 if table["id"].n_unique() == len(table) else 0,
        columns=datasets.columns_of(table, uses, ranges),
        expires=LATER,
    )


def dataset(
    name: str, owner: str, table: pl.DataFrame, uses: dict[str, list[Use]], key: bytes
) -> tuple[Dataset, bytes]:
    """A sealed data set, and its one file."""
    agreed = terms(table, uses)
    sealed = datasets.seal(table, key, ROOM, name, 1, agreed)
    return Dataset(id=name, version=1, owner=owner, terms=agreed, parts=datasets.describe([sealed])), sealed


QUERY = SqlAnalysis(
    id="by-sex",
    question="How many, by sex?",
    inputs=("people", "labs"),
    recipients=("clinic",),
    query="WITH l AS (SELECT id, arg_max(value, day) AS value FROM labs WHERE test = 'hdl' GROUP BY id) "
    "SELECT p.sex, count(DISTINCT p.id) AS persons, avg(l.value) AS hdl "
    "FROM people p JOIN l ON p.id = l.id GROUP BY p.sex",
    max_rows=10,
)
MODEL = ModelAnalysis(
    id="death",
    question="Do values help?",
    inputs=("people", "labs"),
    recipients=("clinic", "laboratory"),
    table="WITH v AS (SELECT id, avg(value) AS value FROM labs GROUP BY id) "
    "SELECT p.id AS person, p.died, p.age, v.value FROM people p LEFT JOIN v ON p.id = v.id",
    person="person",
    outcome="died",
    arms=(Arm(name="clinic", predictors=("age",)), Arm(name="both", predictors=("age", "value"))),
    compare=(("both", "clinic"),),
    folds=3,
)


@dataclass
class Setting:
    """Two owners, their homes, their sealed data and an agreement."""

    homes: dict[str, Home]
    agreement: Agreement
    files: dict[str, bytes] = field(default_factory=dict)

    def signed(self, *parties: str) -> SignedAgreement:
        """The agreement, signed by some parties, or by all."""
        names = parties or tuple(self.homes)
        signatures = tuple(sign(self.agreement, name, self.homes[name].signing) for name in names)
        for name in names:
            self.homes[name].agree(self.agreement)
        return SignedAgreement(agreement=encode(self.agreement), signatures=signatures)


def acquaint(homes: dict[str, Home]) -> None:
    """Have parties read their fingerprints to each other, and confirm them."""
    for home in homes.values():
        for other in homes.values():
            if other is not home:
                party = other.public(other.party, ("owner",))
                Trust(home).confirm(party, fingerprint.of(party))


def code(image_id: str = "11" * 32, mrsigner: str = "22" * 32, root: str = "PEM") -> Code:
    """What the sample agreement accepts."""
    return Code(
        image_id=image_id,
        measurements=(Measurement(tee="process", mrenclave=image_id, mrsigner=mrsigner),),
        product_id=31,
        svn_min=1,
        debug=False,
        protection=("process",),
        roots=(root,),
        lacks=(),
        counter=("unwitnessed",),
        fresh_seconds=31 * 86_400,
    )


def setting(
    folder: Path, agreed: Code | None = None, analyses: tuple[Analysis, ...] = (QUERY, MODEL)
) -> Setting:
    """Make the sample room's parties, data and agreement."""
    homes = {name: Home.create(folder / name, name) for name in ("clinic", "laboratory")}
    acquaint(homes)
    found, files = [], {}
    for name, owner, table, uses in (
        ("people", "clinic", people(), PEOPLE_USES),
        ("labs", "laboratory", labs(), LABS_USES),
    ):
        key = datasets.new_key()
        described, files[name] = dataset(name, owner, table, uses, key)
        found.append(described)
        homes[owner].keep_key(
            DataKey(
                room=ROOM,
                dataset=name,
                version=1,
                terms=hash_of(described.terms),
                parts=tuple(part.sha256 for part in described.parts),
                key=key,
            )
        )
    agreement = Agreement(
        kind="kluis-agreement/1",
        room=ROOM,
        parent="",
        title="Sample",
        purpose="Tests",
        created=NOW,
        expires=LATER,
        parties=(
            homes["clinic"].public("The clinic", ("owner", "recipient")),
            homes["laboratory"].public("The laboratory", ("owner", "recipient")),
        ),
        code=agreed or code(),
        datasets=tuple(found),
        analyses=analyses,
        k_min=K,
        max_runs=2,
        any_owner_may_stop=True,
    )
    return Setting(homes, agreement, files)
