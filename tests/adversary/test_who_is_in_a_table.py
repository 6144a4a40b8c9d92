"""A co-owner that chooses its own table does not learn whether one person is in another's.

It knows who is in its own table, and nothing of who is in the other. Two worlds differ in that person only.
"""

from __future__ import annotations

import random

import polars as pl
import pytest

from tests.adversary import rooms
from tests.adversary.rooms import computed, raw

PEOPLE = rooms.people()
TARGET = 5
SEX = dict(PEOPLE.select("id", "sex").iter_rows())
INVENTED = range(9000, 9060)
EVERYONE = [*range(1, 401), *INVENTED]


def worlds(codes: pl.DataFrame) -> list[dict[str, pl.DataFrame]]:
    """The other's table with the target, and without."""
    return [{"people": each, "codes": codes} for each in (PEOPLE, PEOPLE.filter(pl.col("id") != TARGET))]


def marked(*others: int) -> pl.DataFrame:
    """The target has a mark that these have, too, and no one else; every third person has another code."""
    return rooms.codes({each: each % 3 for each in EVERYONE}, dict.fromkeys((TARGET, *INVENTED, *others), 1))


def left_out() -> pl.DataFrame:
    """Everyone but the target."""
    return rooms.codes({each: each % 3 for each in EVERYONE if each != TARGET}, {})


ALIKE = [each for each in range(1, 401) if SEX[each] != SEX[TARGET]][:80]
LEAKS = {
    "a mark as a key": (marked(), "SELECT c.code, c.mark, {n} FROM {j} GROUP BY c.code, c.mark"),
    "left out of a join": (left_out(), "SELECT {n} FROM {j}"),
    "left out of a group": (left_out(), "SELECT p.sex, {n} FROM {j} GROUP BY p.sex"),
    "left out of a left join": (left_out(), "SELECT {n}, count(c.id) AS m FROM {l}"),
    "left out of a comparison": (left_out(), "SELECT count(*) FILTER (WHERE p.status = 1) AS n FROM {j}"),
    "left out of a code": (left_out(), "SELECT c.code, {n} FROM {j} GROUP BY c.code"),
    "alone in a group": (
        marked(*ALIKE),
        "SELECT p.sex, {n}, count(*) FILTER (WHERE c.mark = 1) AS m FROM {j} GROUP BY p.sex",
    ),
    "alone in two comparisons": (
        marked(*ALIKE),
        "SELECT count(*) FILTER (WHERE p.sex = 'f') AS n, count(*) FILTER (WHERE c.mark = 1) AS m FROM {j}",
    ),
    "alone by two keys": (marked(*ALIKE), "SELECT p.sex, c.mark, {n} FROM {j} GROUP BY p.sex, c.mark"),
}


def _text(template: str) -> str:
    on = "JOIN codes c ON p.id = c.id"
    return template.format(n="count(*) AS n", j=f"people p {on}", l=f"people p LEFT {on}")


@pytest.mark.parametrize("attack", LEAKS)
def test_one_person_there_or_not(attack: str) -> None:
    """A mark with invented persons, one person left out, one person of a sex: the same leaves in both."""
    codes, template = LEAKS[attack]
    there, gone = (computed(_text(template), each) for each in worlds(codes))
    assert there == gone


def test_what_they_would_find() -> None:
    """The worlds differ in plain SQL where the person is counted; joins that lose nobody are answered."""
    codes, template = LEAKS["alone by two keys"]
    there, gone = (raw(_text(template), each) for each in worlds(codes))
    assert sorted(there) != sorted(gone)
    for attack in ("left out of a join", "left out of a group"):
        codes, template = LEAKS[attack]
        assert computed(_text(template), worlds(codes)[0]) != []


KEYS = ["p.sex", "p.smoker", "p.status", "CASE WHEN p.age < 50 THEN 'a' ELSE 'b' END", "c.code"]
ATOMS = ["p.status = 1", "p.age < 45", "p.smoker", "p.age >= 60", "p.sex = 'f'", "c.code = 1", "c.code < 2"]


def _query(pick: random.Random, must: list[str]) -> str:
    """A random query that uses some columns, as a key or in a comparison."""
    keys = pick.sample(KEYS, pick.randrange(3))
    atoms = pick.sample(ATOMS, pick.randrange(3))
    for column in must:
        if pick.random() < 0.5:
            keys.append(column)
        else:
            atoms.append(f"{column} = {chr(39) + 'f' + chr(39) if column == 'p.sex' else 1}")
    keys = list(dict.fromkeys(keys))
    outputs = [f"{each} AS k{number}" for number, each in enumerate(keys)] + ["count(*) AS n"]
    where = [each for each in atoms if pick.random() < 0.3]
    outputs += [f"count(*) FILTER (WHERE {each}) AS a{number}" for number, each in enumerate(atoms)]
    if pick.random() < 0.4:
        outputs.append("sum(c.code) AS s" if pick.random() < 0.5 else "avg(p.weight) AS s")
    text = f"SELECT {', '.join(outputs)} FROM people p JOIN codes c ON p.id = c.id"
    text += f" WHERE {pick.choice((' AND ', ' OR ')).join(where)}" if where else ""
    return text + (f" GROUP BY {', '.join(f'k{number}' for number in range(len(keys)))}" if keys else "")


@pytest.mark.parametrize("count", [15, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["left out", "marked", "alone"])
def test_random_queries(kind: str, count: int) -> None:
    """So many random queries a kind: what leaves is the same in both worlds, and not always nothing."""
    pick = random.Random(kind)
    answered = 0
    for _ in range(count):
        if kind == "left out":
            codes, must = left_out(), list[str]()
        elif kind == "marked":
            codes, must = marked(), ["c.mark"]
        else:
            codes, must = marked(*ALIKE), ["c.mark", "p.sex"]
        text = _query(pick, must)
        there, gone = (computed(text, each) for each in worlds(codes))
        assert there == gone, text
        answered += bool(there)
    assert answered


@pytest.mark.parametrize("join", ["JOIN people p ON c.id = p.id", "LEFT JOIN people p ON c.id = p.id"])
def test_one_more_than_k_that_an_owner_knows(join: str) -> None:
    """Not claimed: a mark on k persons that its owner knows to be there, and one more, counts k or k + 1."""
    known = range(10, 10 + rooms.K)
    mark = dict.fromkeys((TARGET, *known, *INVENTED[:30]), 1)
    codes = rooms.codes({each: each % 3 for each in EVERYONE}, mark)
    text = f"SELECT c.mark, count(p.id) AS n FROM codes c {join} GROUP BY c.mark"
    there, gone = ({row["mark"]: row["n"] for row in computed(text, each)} for each in worlds(codes))
    assert (there[1], gone[1]) == (rooms.K + 1, rooms.K)
