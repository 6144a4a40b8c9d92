"""Frozen dataclasses that are made quickly are what they would be otherwise."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from kluis.evidence.model import Claims
from kluis.frozen import made_quickly


@made_quickly
@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Fields by position, by keyword, and with a default."""

    x: int
    y: int = 2
    name: str = dataclasses.field(kw_only=True)
    note: str | None = dataclasses.field(default=None, kw_only=True)


@made_quickly
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Named(Place):
    """A field more than its base has."""

    more: bytes


PLACE = Place(1, name="here")
NAMED = Named(x=1, name="here", more=b"more")


@pytest.mark.parametrize("made", [PLACE, NAMED], ids=["of one class", "of a subclass"])
def test_fields_are_set_and_stay(made: Place) -> None:
    """An instance is of its class, has the given values, and cannot be changed."""
    assert type(made) in (Place, Named)
    assert (made.x, made.y, made.name, made.note) == (1, 2, "here", None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.x = 3  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.x
    assert made.x == 1


def test_arguments_are_those_of_a_dataclass() -> None:
    """Missing, unknown and repeated arguments are refused; the signature lists the parameters."""
    wrong: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
        ((), {"name": ""}),
        ((1,), {}),
        ((1, 2, 3), {"name": ""}),
        ((1,), {"x": 1, "name": ""}),
        ((1,), {"name": "", "z": 1}),
    )
    for positions, names in wrong:
        with pytest.raises(TypeError):
            Place(*positions, **names)
    assert str(inspect.signature(Place)) == (
        "(x: 'int', y: 'int' = 2, *, name: 'str', note: 'str | None' = None) -> None"
    )


def test_as_any_dataclass() -> None:
    """It is compared, hashed, copied, pickled and replaced as it would be."""
    assert Place(1, 2, name="here", note=None) == PLACE != Place(1, 3, name="here")
    assert hash(Place(1, name="here")) == hash(PLACE)
    moved = dataclasses.replace(NAMED, x=5)
    assert (type(moved), moved.x, moved.more) == (Named, 5, b"more")
    for other in (copy.copy(NAMED), copy.deepcopy(NAMED), pickle.loads(pickle.dumps(NAMED))):
        assert (type(other), other) == (Named, NAMED)


def test_claims_cannot_be_changed() -> None:
    """Claims that a verifier returned cannot be changed."""
    names = {field.name: None for field in dataclasses.fields(Claims)}
    claims = Claims(**names)  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        claims.debug = True  # type: ignore[misc]
    assert type(claims) is Claims


@dataclasses.dataclass(slots=True)
class Open:
    """Not frozen."""

    x: int


@dataclasses.dataclass(frozen=True)
class Roomy:
    """Without slots."""

    x: int


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """With a custom check."""

    x: int

    def __post_init__(self) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Fresh:
    """With a value that is created for each instance."""

    x: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Derived:
    """With a field that nobody gives."""

    x: int = dataclasses.field(default=1, init=False)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Open, "Open: want a frozen dataclass with slots"),
        (Roomy, "Roomy: want a frozen dataclass with slots"),
        (Checked, "Checked: is made by more than setting its fields"),
        (Fresh, "Fresh: is made by more than setting its fields"),
        (Derived, "Derived: is made by more than setting its fields"),
    ],
)
def test_refused(cls: type, message: str) -> None:
    """A class of another kind is refused when it is made."""
    with pytest.raises(TypeError) as caught:
        made_quickly(cls)
    assert str(caught.value) == message
