"""What the answers of one agreement tell together: the rules hold each query to its groups, and no more.

A co-owner adds columns that divide the persons at random, and proposes a query for each. Each group is large,
and all figures together are within the limit. Nothing prevents that what they tell is put together, so a
party is shown that several queries read its data before it signs.
"""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from kluis.cleanroom.agreement.agreement import SqlAnalysis
from kluis.cleanroom.analyses import budget
from kluis.cleanroom.signing.explain import answers_together, explain
from tests.adversary import rooms
from tests.cleanroom import samples

QUERIES, GROUPS = 60, 8


def test_every_persons_status_from_large_groups() -> None:
    """As the documentation states of what is not claimed: 960 figures of groups of 50 show 400 values."""
    pick, people = random.Random(5), rooms.people()
    divided = {}
    for number in range(QUERIES):
        groups = [each % GROUPS for each in range(len(people))]
        pick.shuffle(groups)
        divided[f"g{number}"] = groups
    tables = {"people": people, "codes": pl.DataFrame({"id": people["id"], **divided})}
    uses = {"people": rooms.PEOPLE, "codes": {"id": ["join"], **{each: ["group"] for each in divided}}}
    described = tuple(rooms.described(name, table, uses[name]) for name, table in tables.items())  # type: ignore[arg-type]
    members, dead = [], []
    for name, groups in divided.items():
        text = (
            f"SELECT c.{name} AS g, sum(p.status) AS d FROM people p JOIN codes c ON p.id = c.id GROUP BY g"
        )
        for row in rooms.answered(rooms.asked(text, tuple(tables)), described, tables):
            members.append([each == row["g"] for each in groups])
            dead.append(row["d"])
    assert QUERIES * GROUPS * 2 <= budget.FIGURES_PER_K * rooms.K
    found = np.linalg.lstsq(np.array(members, float), np.array(dead, float))[0]
    assert ((found > 0.5) == people["status"].to_numpy()).all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_party_is_shown_that_several_queries_read_its_data(tmp_path: Path, count: int) -> None:
    """One query gives no warning, nor does a model next to it."""
    agreement = samples.setting(tmp_path).agreement
    queries = tuple(msgspec.structs.replace(samples.QUERY, id=f"q{number}") for number in range(count))
    models = tuple(each for each in agreement.analyses if not isinstance(each, SqlAnalysis))
    agreement = msgspec.structs.replace(agreement, analyses=(*queries, *models))
    told = " ".join(explain(agreement).replace("\\ ", "").split())
    words = f"is not limited: labs by {count}, people by {count}"
    assert (words in told, words in answers_together(agreement)) == ((count > 1,) * 2)
