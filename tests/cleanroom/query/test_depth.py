"""Long queries: whatever an author writes, the answer is a tree or a QueryError."""

from __future__ import annotations

import pytest

from kluis.cleanroom import query
from kluis.cleanroom.query import QueryError
from tests.cleanroom import samples

PEOPLE = samples.dataset("people", "clinic", samples.people(), samples.PEOPLE_USES, bytes(32))[0]


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT count(*) AS n FROM people WHERE {' AND '.join(['died = 1'] * 1200)}",
        f"SELECT count(*) AS n FROM people WHERE {' OR '.join(['died = 1'] * 1200)}",
        f"SELECT count(*){' + 1' * 1600} AS n FROM people",
        f"SELECT count(*) AS n FROM people HAVING {' AND '.join(['n > 1'] * 1200)}",
        f"SELECT count(*) AS n FROM people WHERE {'NOT ' * 400} died = 1",
        f"SELECT {'(' * 90}count(*){')' * 90} AS n FROM people",
    ],
    ids=["and", "or", "plus", "having", "not", "parentheses"],
)
def test_a_long_query_is_read_or_refused(text: str) -> None:
    try:
        asked = query.read_groups(text, (PEOPLE,))
    except QueryError:
        return
    query.write_cells(asked, samples.K)
