"""What one attribute of one person changes in the published results, given a table that a co-owner made for
it.

Two worlds differ in one value of one person. A count may change by one and a sum by a few spans. Whether a
group is shown may change only if one set of persons has k - 1 of them in one world and k in the other, as
computed here in plain Python.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
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
    Part("p", "CASE WHEN p.age < 50 THEN 'a' ELSE 'b' END", lambda row: "a" if row["age"] < 50 else "b"),
    Part(
        "p",
        "CASE WHEN p.age >= 80 THEN 'old' ELSE 'not' END",
        lambda row: "old" if row["age"] >= 80 else "not",
    ),
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
    after = people.with_columns(
        pl.when(is_target).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )
    codes = _codes(pick, people, target, pick.choice(("sex", "town", "status", "smoker")))
    joined = pick.choice(["p JOIN", "p JOIN", "c LEFT", "p LEFT", "p"])
    of = ("p",) if joined == "p" else ("p", "c")
    keys = _some(pick, [each for each in KEYS if each.source in of])
    atoms = _some(pick, [each for each in ATOMS if each.source in of])
    about = [each for each in (*KEYS, *ATOMS) if f"p.{column}" in each.text]
    if about:  # as a key, or in a comparison
        asked = pick.choice(about)
        added = keys if asked in KEYS else atoms
        added += [asked] if asked not in added else []
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
    """The target among persons whom the co-owner knows to be alike, or to differ; and invented ones."""
    value = people.row(target - 1, named=True)[like]
    same = pick.random() < 0.6
    alike = [row["id"] for row in people.to_dicts() if row["id"] != target and (row[like] == value) == same]
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
    except TypeError:  # a comparison with NULL
        return {"'b'": "b", "'not'": "not"}.get(part.text.partition(" ELSE ")[2].removesuffix(" END"))


def _tells(case: Case, shown: Iterable[tuple[object, ...]]) -> bool:
    """Whether a set that the person is in has k - 1 persons in one world and k in the other.

    Or whether another one of two groups is the smaller: the smallest is hidden where one more has to be.
    """
    worlds = [_persons(case, each) for each in case.worlds]
    sizes = [Counter(_key(case, row) for row in world) for world in worlds]
    for a, b in itertools.combinations(sizes[0].keys() | sizes[1].keys(), 2):
        if min(each[of] for each in sizes for of in (a, b)) >= K and (
            (sizes[0][a] > sizes[0][b]) != (sizes[1][a] > sizes[1][b])
            or (sizes[0][a] < sizes[0][b]) != (sizes[1][a] < sizes[1][b])
        ):
            return True
    left_out = (set(shown), set[tuple[object, ...]](), _large(case, worlds))
    choices = [(kind, source) for kind in ("keys", "atoms") for source in ("p", "c")]
    for row in (each for world in worlds for each in world if each["id"] == case.target):
        for some in itertools.product((True, False), repeat=len(choices)):
            used = [each for each, chosen in zip(choices, some, strict=True) if chosen]
            parts = [each for each in case.keys if ("keys", each.source) in used]
            parts += [each for each in case.atoms if ("atoms", each.source) in used]
            same = [
                [each for each in world if all(_read(of, each) == _read(of, row) for of in parts)]
                for world in worlds
            ]
            sets = [same, [[each for each in of if each["everywhere"]] for of in same]]
            sets += [
                [[each for each in of if _key(case, each) not in but] for of in same] for but in left_out
            ]
            if any(sorted(map(len, of)) == [K - 1, K] for of in sets):
                return True
    return False


def _large(case: Case, worlds: list[list[Row]]) -> set[tuple[object, ...]]:
    """The groups each of whose cells has k persons or nobody, in both worlds."""
    cells = [Counter((_key(case, row), _answers(case, row)) for row in world) for world in worlds]
    small = {key for each in cells for (key, _), count in each.items() if count < K}
    return {key for each in cells for key, _ in each} - small


def _answers(case: Case, row: Row) -> tuple[object, ...]:
    return tuple(_read(each, row) for each in case.atoms)


def _rests(case: Case, shown: Iterable[tuple[object, ...]]) -> bool:
    """Whether fewer than k persons, but some, are left of a total that an owner can know, in one world."""
    for source in ("p", "c", ""):
        parts = [each for each in (*case.keys, *case.atoms) if each.source == source]
        left: Counter[tuple[object, ...]] = Counter()
        for row in _persons(case, case.worlds[0]):
            if _key(case, row) not in shown:
                left[tuple(_read(each, row) for each in parts)] += 1
        for row in _persons(case, case.worlds[0]):
            key = _key(case, row)
            of = tuple(_read(each, row) for each in parts)
            if 0 < left[of] < K and key in shown:
                return True
    return False


def _key(case: Case, row: Row) -> tuple[object, ...]:
    return tuple(_read(each, row) for each in case.keys)


def _differs(case: Case) -> str:
    """The differences in the results of two worlds that must be equal; empty if there are none."""
    keys = [f"k{number}" for number in range(len(case.keys))]
    rows = [
        {tuple(each[key] for key in keys): each for each in computed(case.text, world)}
        for world in case.worlds
    ]
    if rows[0] and _rests(case, rows[0].keys()):
        return "rest"
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


@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_random_analyses(part: int) -> None:
    """Sixty random analyses a part: nothing but what may differ does, and not all are hidden."""
    answered = 0
    for seed in range(60 * part, 60 * part + 60):
        case = _case(seed)
        found = _differs(case)
        if found == "shown":
            keys = [f"k{number}" for number in range(len(case.keys))]
            shown = [
                tuple(row[key] for key in keys) for each in case.worlds for row in computed(case.text, each)
            ]
            found = "" if _tells(case, shown) else found
        assert not found, (seed, found, case.text)
        answered += bool(computed(case.text, case.worlds[0]))
    assert answered >= 10


EVERYONE = rooms.people().with_columns(age=pl.when(pl.col("age") > 90).then(50).otherwise("age"))
LABS = rooms.labs().filter(pl.col("id") > 20)
TARGET = 25
OLDEST = {
    "a comparison": "SELECT count(*) FILTER (WHERE age >= {n}) AS n FROM people",
    "the other side": "SELECT count(*) FILTER (WHERE NOT age < {n}) AS n FROM people",
    "a range": "SELECT count(*) FILTER (WHERE age BETWEEN {n} AND 110) AS n FROM people",
    "a list": "SELECT count(*) FILTER (WHERE age IN ({n}, 109)) AS n FROM people",
    "bins": "SELECT CASE WHEN age >= {n} THEN 'a' ELSE 'b' END AS g, count(*) AS n FROM people GROUP BY g",
    "a group": "SELECT sex, count(*) AS n, "
    "avg(CASE WHEN age >= {n} THEN 1 ELSE 0 END) AS a FROM people GROUP BY sex",
    "rows": "WITH l AS ("
    "SELECT id, max(value) AS v FROM labs WHERE value >= {n} GROUP BY id) "
    "SELECT count(*) AS n, count(l.id) AS m FROM people p LEFT JOIN l ON p.id = l.id",
    "rows of a value": "WITH l AS ("
    "SELECT id, max(value) FILTER (WHERE value >= {n}) AS v FROM labs GROUP BY id) "
    "SELECT count(*) AS n, count(l.v) AS m FROM people p JOIN l ON p.id = l.id",
    "a reduced value": "WITH l AS (SELECT id, max(value) AS v FROM labs GROUP BY id) "
    "SELECT count(*) FILTER (WHERE l.v >= {n}) AS n FROM people p JOIN l ON p.id = l.id",
}


@pytest.mark.parametrize("by", OLDEST)
def test_the_largest_value_is_not_found_by_halves(by: str) -> None:
    """One person has the largest value: "hidden" or 0 at each of several limits does not tell which."""
    answers = []
    for largest in (74, 80, 100):
        people = EVERYONE.with_columns(age=pl.when(pl.col("id") == TARGET).then(largest).otherwise("age"))
        value = pl.when(pl.col("id") == TARGET).then(float(largest)).otherwise(pl.col("value").clip(0, 70))
        tables = {"people": people, "labs": LABS.with_columns(value=value)}
        if "labs" not in OLDEST[by]:
            del tables["labs"]
        answers.append([computed(OLDEST[by].format(n=limit), tables) for limit in (73, 80, 90, 100, 108)])
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("by", OLDEST)
def test_a_limit_that_many_meet(by: str) -> None:
    """The same queries are answered where enough persons are on either side of the limit."""
    tables = {"people": EVERYONE, "labs": LABS}
    if "labs" not in OLDEST[by]:
        del tables["labs"]
    assert computed(OLDEST[by].replace("109", "51").format(n=60 if "labs" in tables else 50), tables)


MEN = {
    "two keys": "SELECT sex, status, count(*) AS n FROM people GROUP BY sex, status",
    "two bins": "SELECT sex, CASE WHEN age < 50 THEN 'a' ELSE 'b' END AS g, "
    "count(*) AS n FROM people GROUP BY sex, g",
    "a key and a comparison": "SELECT sex, sum(status) AS d, count(*) AS n FROM people GROUP BY sex",
    "two comparisons": "SELECT count(*) FILTER (WHERE sex = 'm' AND status = 1) AS n FROM people",
    "a key and its comparison": "SELECT status, "
    "count(*) FILTER (WHERE sex = 'm') AS n FROM people GROUP BY status",
}


@pytest.mark.parametrize("by", MEN)
def test_one_man_or_none(by: str) -> None:
    """No man has the illness, or is old, but one perhaps: which groups are shown does not tell."""
    man = EVERYONE.filter(pl.col("sex") == "m")["id"][0]
    other = pl.col("sex") == "m"
    shown = []
    for secret in (0, 1):
        mine = pl.col("id") == man
        people = EVERYONE.with_columns(
            status=pl.when(mine).then(secret).when(other).then(0).otherwise("status"),
            age=pl.when(mine).then(40 + 20 * secret).when(other).then(40).otherwise("age"),
        )
        rows = computed(MEN[by], {"people": people})
        shown.append([[each for name, each in row.items() if name not in ("n", "d")] for row in rows])
    assert shown[0] == shown[1]


def _left_of_a_total() -> list[tuple[pl.DataFrame, pl.DataFrame, str]]:
    """One person among sixty known to the co-owner to be women, under a separate key or mark."""
    women = [each for each in EVERYONE.filter(pl.col("sex") == "f")["id"] if each != TARGET][:60]
    chosen = {TARGET, *women}
    own = {each: 1 if each in chosen else 3 + each % 3 if each % 20 == 0 else 2 for each in range(1, 401)}
    mine = pl.col("id") == TARGET
    people = EVERYONE.with_columns(sex=pl.when(mine).then(pl.lit("m")).otherwise("sex"))
    keys = "SELECT c.code, p.sex, count(*) AS n FROM {} GROUP BY c.code, p.sex"
    towns = people.with_columns(
        town=pl.when(mine | ((pl.col("id") > 300) & ~pl.col("id").is_in(women)))
        .then(pl.lit("Zz"))
        .when(pl.col("id").is_in(women) | (pl.col("id") % 2 == 0))
        .then(pl.lit("Aa"))
        .otherwise(pl.lit("Bb"))
    )
    marks = {each: int(each in chosen or (each % 4 == 1 and each <= 300)) for each in own}
    marked = (
        "SELECT p.town, count(*) AS n, count(*) FILTER (WHERE c.mark = 1) AS m "
        "FROM codes c JOIN people p ON p.id = c.id GROUP BY p.town"
    )
    return [
        (people, rooms.codes(own, {}), keys.format("codes c JOIN people p ON p.id = c.id")),
        (people, rooms.codes(own, {}), keys.format("codes c LEFT JOIN people p ON p.id = c.id")),
        (towns, rooms.codes(own, marks), marked),
    ]


@pytest.mark.parametrize("attack", range(3))
def test_what_is_left_of_an_owners_total(attack: int) -> None:
    """Subtracting the totals of an owner's own keys or comparisons leaves nothing, or k."""
    people, codes, text = _left_of_a_total()[attack]
    rows = computed(text, {"people": people, "codes": codes})
    if "mark" in text:
        left = {"marked": int(codes["mark"].sum()) - sum(int(str(row["m"])) for row in rows)}
    else:
        left = dict(codes["code"].value_counts().iter_rows())
        for row in rows:
            left[row["code"]] -= int(str(row["n"]))
    shown = {row.get("code", "marked") for row in rows}
    assert shown
    assert all(each == 0 or each >= K for name, each in left.items() if name in shown), (left, rows)
