"""A sealed data set opens as what it is, where it belongs, and nowhere else."""

from __future__ import annotations

import msgspec
import pytest

from kluis.cleanroom.data import datasets
from kluis.errors import AuthenticityError, PolicyError
from tests.cleanroom import samples

KEY = bytes(range(32))


def test_round_trip() -> None:
    """What is sealed opens to the same table."""
    described, sealed = samples.dataset("people", "clinic", samples.people(), samples.PEOPLE_USES, KEY)
    assert datasets.open_sealed([sealed], KEY, samples.ROOM, described).equals(samples.people())


def test_nothing_in_clear() -> None:
    """Neither a value nor a column's name nor a count can be read in the file."""
    _, sealed = samples.dataset("people", "clinic", samples.people(), samples.PEOPLE_USES, KEY)
    assert b"SECRET" not in sealed
    assert b"secret" not in sealed
    assert sealed[:4] == b"PARE"


@pytest.mark.parametrize("what", ["key", "room", "version", "name", "terms", "byte"])
def test_bound_to_all_it_is(what: str) -> None:
    """Another key, room, version, name or terms, or a changed byte, and it does not open; one message."""
    described, sealed = samples.dataset("people", "clinic", samples.people(), samples.PEOPLE_USES, KEY)
    key, room = KEY, samples.ROOM
    weaker = msgspec.structs.replace(described.terms, k_min=3)
    if what == "key":
        key = bytes(32)
    elif what == "room":
        room = "00" * 32
    elif what == "byte":
        sealed = sealed[:2000] + bytes([sealed[2000] ^ 1]) + sealed[2001:]
        described = msgspec.structs.replace(described, parts=datasets.describe([sealed]))
    else:
        change = {"version": {"version": 2}, "name": {"id": "persons"}, "terms": {"terms": weaker}}[what]
        described = msgspec.structs.replace(described, **change)
    with pytest.raises(AuthenticityError) as caught:
        datasets.open_sealed([sealed], key, room, described)
    assert caught.value.message == f"data set {described.id}: cannot be opened as the agreement has it"


def test_swapped_file() -> None:
    """Another file than the agreement pins is refused before it is opened."""
    described, sealed = samples.dataset("people", "clinic", samples.people(), samples.PEOPLE_USES, KEY)
    other, swapped = samples.dataset("people", "clinic", samples.people(100), samples.PEOPLE_USES, KEY)
    with pytest.raises(AuthenticityError) as caught:
        datasets.open_sealed([swapped], KEY, samples.ROOM, described)
    want, got = described.parts[0].sha256[:16], other.parts[0].sha256[:16]
    assert caught.value.message == f"data set people part 0: want sha256 {want}.., got {got}.."
    assert datasets.open_sealed([sealed], KEY, samples.ROOM, described).height == 200


def test_privacy_unit_is_not_shown() -> None:
    """No owner can allow its privacy unit to be grouped by, by mistake."""
    with pytest.raises(PolicyError) as caught:
        samples.terms(samples.people(), {"id": ["join", "group"]}).check("data set people")
    want = "data set people: want privacy unit 'id' to allow at most join, got ['group']"
    assert caught.value.message == want


def test_a_row_without_a_person() -> None:
    """A row that belongs to nobody cannot be sealed: it would escape the count of persons."""
    import polars as pl

    table = samples.people().with_columns(pl.when(pl.col("id") > 1).then("id").alias("id"))
    with pytest.raises(PolicyError) as caught:
        datasets.seal(table, KEY, samples.ROOM, "people", 1, samples.terms(table, samples.PEOPLE_USES))
    assert caught.value.message == "data set people: want a id in every row, got rows without"


def test_a_privacy_unit_with_any_name() -> None:
    """Persons may be counted by a column ``count``, a name that polars gives a column of its own."""
    table = samples.people().rename({"id": "count"})
    terms = msgspec.structs.replace(
        samples.terms(samples.people(), {}), privacy_unit="count", columns=datasets.columns_of(table, {}, {})
    )
    datasets.check_table(table, terms, "people")
    with pytest.raises(PolicyError, match=r"want at most 1 rows a person, got more$"):
        datasets.check_table(table.vstack(table), terms, "people")
