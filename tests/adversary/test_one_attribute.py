"""What one attribute of one person changes of what leaves, beside a table that a co-owner made to find it out.

Two worlds differ in one value of one person. A count may change by one and a sum by a few spans. Whether a
group is shown may change only where one set of persons has k - 1 of them in one world and k in the other, as
found here in plain Python.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest

from tests.adversary import rooms
from tests.adversary.rooms import K, computed

COUNT = 240
Row = dict[str, Any]
TOWNS = ("Aa", "Bb", "Cc", "Hamlet")


@dataclass(frozen=True)
class Part:
    """A key or a comparison: its source, its SQL, and what Python reads from a person's row."""

    source: str
    text: str
    of: Callable[[Row], object]


KEYS = [
    Part("p", "p.sex", lambda row: row["sex"]),
    Part("p", "p.smoker", lambda row: row["smoker"]),
    Part("p", "p.status", lambda row: row["status"]),
    Part("p", "p.town", lambda row: row["town"]),
    Part("p", "CASE WHEN p.age < 50 THEN 'a' ELSE 'b' END", lambda row: row["age"] < 50),
    Part("p", "CASE WHEN p.age >= 80 THEN 'old' ELSE 'not' END", lambda row: row["age"] >= 80),
    Part("c", "c.code", lambda row: row.get("code")),
    Part("c", "c.code", lambda row: row.get("code")),
    Part("c", "c.mark", lambda row: row.get("mark")),
]
ATOMS = [
    Part("p", "p.status = 1", lambda row: row["status"] == 1),
    Part("p", "p.age < 45", lambda row: row["age"] < 45),
    Part("p", "p.age >= 75", lambda row: row["age"] >= 75),
    Part("p", "p.age >= 90", lambda row: row["age"] >= 90),
    Part("p", "p.smoker", lambda row: row["smoker"]),
    Part("p", "p.sex = 'f'", lambda row: row["sex"] == "f"),
    Part("p", "p.town = 'Hamlet'", lambda row: row["town"] == "Hamlet"),
    Part("c", "c.code = 1", lambda row: row["code"] == 1 if "code" in row else None),
    Part("c", "c.mark = 1", lambda row: row["mark"] == 1 if "mark" in row else None),
]


@dataclass(frozen=True)
class Case:
    """One query, over two worlds that differ in one value of one person."""

    text: str
    joined: str
    keys: list[Part]
    atoms: list[Part]
    worlds: list[dict[str, pl.DataFrame]]
    target: int


def _case(seed: int) -> Case:
    pick = random.Random(seed)
    people, target = _people(pick), pick.randint(1, COUNT)
    before = people.row(target - 1, named=True)
    column, value = pick.choice(
        [
            ("status", 1 - before["status"]),
            ("smoker", not before["smoker"]),
            ("sex", "f" if before["sex"] == "m" else "m"),
            ("age", pick.choice([35, 55, 78, 97])),
            ("town", pick.choice(TOWNS)),
            ("weight", pick.choice([30.0, 80.0, 200.0])),
        ]
    )
    is_target = pl.col("id") == target
    after = people.with_columns(pl.when(is_target).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))
    codes = _codes(pick, people, target, pick.choice(("sex", "town", "status", "smoker")))
    joined = pick.choice(["p JOIN", "p JOIN", "c LEFT", "p LEFT", "p"])
    of = ("p",) if joined == "p" else ("p", "c")
    keys = _some(pick, [each for each in KEYS if each.source in of])
    atoms = _some(pick, [each for each in ATOMS if each.source in of])
    text = _text(pick, joined, keys, atoms, "weight" if column == "weight" else "")
    worlds = [{"people": each, "codes": codes} for each in (people, after)]
    if joined == "p":
        worlds = [{"people": each["people"]} for each in worlds]
    return Case(text, joined, keys, atoms, worlds, target)


def _people(pick: random.Random) -> pl.DataFrame:
    """Values that some, few or none have."""
    ill, rare = pick.choice((0.4, 0.4, 0.02, 0.0)), pick.choice((0, 1, 12))
    men_only = pick.random() < 0.3  # nobody of one sex has the status
    rows = []
    for number in range(1, COUNT + 1):
        sex = pick.choice("fm")
        rows.append(
            {
                "id": number,
                "age": pick.randrange(76, 95) if number <= rare else pick.randrange(30, 70),
                "sex": sex,
                "weight": round(pick.gauss(80, 15), 1),
                "status": int(pick.random() < ill and not (men_only and sex == "m")),
                "smoker": pick.random() < 0.4,
                "town": "Hamlet" if number % 120 == 0 else pick.choice(TOWNS[:3]),
            }
        )
    return rooms.people(count=COUNT).update(pl.DataFrame(rows), on="id")


def _codes(pick: random.Random, people: pl.DataFrame, target: int, like: str) -> pl.DataFrame:
    """The target among persons whom the co-owner knows to be alike, or to differ from it; and invented ones."""
    value = people.row(target - 1, named=True)[like]
    same = pick.random() < 0.6
    alike = [
        row["id"] for row in people.to_dicts() if row["id"] != target and (row[like] == value) == same
    ]
    chosen = {target, *alike[: pick.choice((11, 25, 60))]}
    there = [each for each in range(1, COUNT + 1) if pick.random() < 0.95 or each in chosen]
    if pick.random() < 0.5:
        there = list(range(1, COUNT + 1))
    invented = range(9000, 9000 + pick.choice((0, 9, 40)))
    code = {each: 1 if each in chosen else 2 + (each % 13 == 0) for each in [*there, *invented]}
    mark = {each: int(each in chosen or each % 3 == 0) for each in code}
    return rooms.codes(code, mark if pick.random() < 0.5 else {each: int(each in chosen) for each in code})


def _some(pick: random.Random, parts: list[Part]) -> list[Part]:
    found = pick.sample(parts, min(len(parts), pick.choice((0, 1, 1, 2, 2))))
    return list({each.text: each for each in found}.values())


def _text(pick: random.Random, joined: str, keys: list[Part], atoms: list[Part], summed: str) -> str:
    outputs = [f"{each.text} AS k{number}" for number, each in enumerate(keys)] + ["count(*) AS n"]
    outputs += [f"count(*) FILTER (WHERE {each.text}) AS a{number}" for number, each in enumerate(atoms)]
    if summed or pick.random() < 0.2:
        outputs.append(pick.choice(("sum(p.weight) AS s", "avg(p.weight) AS s")))
    where = [each.text for each in atoms if pick.random() < 0.25]
    source = {
        "p": "people p",
        "p JOIN": "people p JOIN codes c ON p.id = c.id",
        "p LEFT": "people p LEFT JOIN codes c ON p.id = c.id",
        "c LEFT": "codes c LEFT JOIN people p ON p.id = c.id",
    }[joined]
    text = f"SELECT {', '.join(outputs)} FROM {source}"
    text += f" WHERE {pick.choice((' AND ', ' OR ')).join(where)}" if where else ""
    return text + (f" GROUP BY {', '.join(f'k{number}' for number in range(len(keys)))}" if keys else "")


def _persons(case: Case, world: dict[str, pl.DataFrame]) -> list[Row]:
    """Everyone that the joins keep, and whether every table has them."""
    people = {row["id"]: row for row in world["people"].to_dicts()}
    if case.joined == "p":
        return [row | {"everywhere": True} for row in people.values()]
    codes = {row["id"]: row for row in world["codes"].to_dicts()}
    ids = codes if case.joined == "c LEFT" else people if case.joined == "p LEFT" else people.keys() & codes
    nobody = dict.fromkeys(world["people"].columns)
    return [
        nobody | people.get(each, {}) | codes.get(each, {}) | {"everywhere": each in people and each in codes}
        for each in ids
    ]


def _read(part: Part, row: Row) -> object:
    try:
        return part.of(row)
    except TypeError:  # NULL in a comparison
        return None


def _tells(case: Case, shown: Iterable[tuple[object, ...]]) -> bool:
    """Whether a set that the person is in has k - 1 persons in one world and k in the other."""
    worlds = [_persons(case, each) for each in case.worlds]
    target = [row for world in worlds for row in world if row["id"] == case.target]
    choices = [(kind, source) for kind in ("keys", "atoms") for source in ("p", "c")]
    for row in target:
        for some in itertools.product((True, False), repeat=len(choices)):
            used = [each for each, chosen in zip(choices, some, strict=True) if chosen]
            parts = [each for each in case.keys if ("keys", each.source) in used]
            parts += [each for each in case.atoms if ("atoms", each.source) in used]
            same = [
                [each for each in world if all(_read(of, each) == _read(of, row) for of in parts)]
                for world in worlds
            ]
            rest = [[each for each in of if _key(case, each) not in shown] for of in same]
            everywhere = [[each for each in of if each["everywhere"]] for of in same]
            for of in (same, rest, everywhere):
                if sorted(map(len, of)) == [K - 1, K]:
                    return True
    return False


def _key(case: Case, row: Row) -> tuple[object, ...]:
    return tuple(_read(each, row) for each in case.keys)


def _differs(case: Case) -> str:
    """What leaves of the one world that should not differ from the other; empty if nothing."""
    found = [computed(case.text, each) for each in case.worlds]
    if found[0] == found[1]:
        return ""
    keys = [f"k{number}" for number in range(len(case.keys))]
    rows = [{tuple(each[key] for key in keys): each for each in of} for of in found]
    if rows[0].keys() != rows[1].keys():
        return "shown"
    for key, one in rows[0].items():
        other = rows[1][key]
        for name in one:
            if name.startswith(("n", "a")) and abs(one[name] - other[name]) > 1:  # type: ignore[operator]
                return "count"
            spans = 6 * 170 / (1 if "sum(" in case.text else one["n"])  # type: ignore[operator]
            if name == "s" and one["n"] == other["n"] and abs((one[name] or 0) - (other[name] or 0)) > spans:  # type: ignore[operator]
                return "sum"
    return ""
