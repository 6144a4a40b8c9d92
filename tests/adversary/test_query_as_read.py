"""What a signer reads of a query is what runs: the parser drops nothing, and every text has an answer."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kluis.cleanroom import query
from kluis.cleanroom.query import QueryError
from tests.adversary import rooms
from tests.cleanroom import samples
from tests.cleanroom.tables import Table

PEOPLE = {"people": rooms.people()}


@pytest.mark.parametrize(
    "rest",
    [
        "; ELSE WHERE age < 50",
        ";\nELSE AND age < 50 AND smoker",
        " WHERE smoker; ELSE -- groups of fewer than 100 persons do not leave\nHAVING count(*) >= 100",
        "; ELSE; SELECT 1; DROP TABLE people",
    ],
)
def test_nothing_after_a_semicolon_is_left_out(rest: str) -> None:
    """The parser stops at ELSE after a semicolon and drops what follows: conditions that nobody applies."""
    error = rooms.refused(f"SELECT count(*) AS n FROM people{rest}", PEOPLE)
    assert error is not None


def test_a_party_signs_no_condition_that_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An owner that reads a condition in what it signs is not held to a query without it."""
    table = Table(tmp_path, capsys)
    text = "SELECT count(*) AS n FROM people p JOIN l ON p.id = l.id WHERE p.died = 1\n;ELSE AND p.age < 50"
    inner = "WITH l AS (SELECT id, max(value) AS value FROM labs GROUP BY id) "
    table.propose(analyses=(msgspec.structs.replace(samples.QUERY, query=inner + text),))
    code, _, shown = table.approve("clinic")
    assert "AND p.age < 50" not in shown or code != 0


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) AS n FROM people $1 AT TIME ZONE 'UTC'",
        "SELECT count(*) AS n FROM people ? AT x",
    ],
)
def test_every_text_is_a_tree_or_an_error_of_ours(text: str) -> None:
    """A proposer's text on which sqlglot itself fails is refused, and does not end a command as a bug."""
    with pytest.raises(QueryError):
        query.read_groups(text, rooms.inputs(PEOPLE))
