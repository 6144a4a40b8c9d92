"""Frozen classes are what ``dataclasses`` would make them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from kluis.evidence.model import Claims
from kluis.frozen import frozen


@frozen
class Place:
    """Fields by position, by keyword, and with a default."""

    x: int
    y: int = 2
    name: str = dataclasses.field(kw_only=True)
    note: str | None = dataclasses.field(default=None, kw_only=True)


@frozen(kw_only=True)
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


@frozen
class Checked:
    """With a check of its own, a fresh list, and a field that nobody gives."""

    x: int
    seen: list[int] = dataclasses.field(default_factory=list, compare=False)
    twice: int = dataclasses.field(init=False)
    marks: tuple[int, ...] = dataclasses.field(default=(1,), init=False, repr=False)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x: want 0 or more")
        object.__setattr__(self, "twice", 2 * self.x)


@dataclasses.dataclass(frozen=True, slots=True)
class Likewise:
    """The same by the standard library."""

    x: int
    seen: list[int] = dataclasses.field(default_factory=list, compare=False)
    twice: int = dataclasses.field(init=False)
    marks: tuple[int, ...] = dataclasses.field(default=(1,), init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", 2 * self.x)


def test_fields_that_nobody_gives() -> None:
    """Defaults, factories, ``__post_init__``, ``repr`` and ``==`` do what they do in a dataclass."""
    one, other, like = Checked(2), Checked(2, [3]), Likewise(2)
    one.seen.append(1)
    assert (one.twice, one.marks, other.seen, Checked(2).seen) == (4, (1,), [3], [])
    assert one == other != Checked(3)
    assert hash(one) == hash(other) == hash(like)
    assert repr(Checked(2)) == repr(like).replace("Likewise", "Checked")
    assert str(inspect.signature(Checked)) == str(inspect.signature(Likewise))
    assert Checked.__match_args__ == ("x", "seen")  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="0 or more"):
        Checked(-1)
    with pytest.raises(TypeError):
        Checked(2, twice=3)  # type: ignore[call-arg]


@frozen(eq=False)
class Itself:
    """Compared by identity."""

    x: int


@frozen
class Nothing:
    """Without fields."""


def test_compared_by_identity() -> None:
    """Without ``eq`` an instance equals only itself; instances without fields are all equal."""
    one = Itself(1)
    assert one == one != Itself(1)
    assert len({one, Itself(1)}) == 2
    assert Nothing() == Nothing() != one
    assert hash(Nothing()) == hash(Nothing())


def test_fields_of_any_name() -> None:
    """A field's name is never taken for something of the compiled method."""

    @frozen
    class Odd:
        """Names that such a method could use itself."""

        frozen: int
        thawed: int
        set_class: int
        missing: int
        factory_seen: int
        default_last: int
        seen: list[int] = dataclasses.field(default_factory=list)
        last: int = dataclasses.field(default=7, init=False)

    one = Odd(1, 2, 3, 4, 5, 6)
    assert type(one) is Odd
    assert dataclasses.astuple(one) == (1, 2, 3, 4, 5, 6, [], 7)


def test_own_methods_stay() -> None:
    """Methods that a class has itself are not replaced."""

    @frozen
    class Hidden:
        """A secret."""

        secret: bytes

        def __repr__(self) -> str:
            return "Hidden()"

        def __eq__(self, other: object) -> bool:
            return False

        __hash__ = None  # type: ignore[assignment]

    one = Hidden(b"x")
    assert repr(one) == "Hidden()"
    assert one != one
    with pytest.raises(TypeError):
        hash(one)


def test_a_subclass_that_is_not_made_by_it() -> None:
    """An instance of such a subclass is refused: it would be of the class above."""

    class Other(Place):
        pass

    with pytest.raises(TypeError):
        Other(1, name="x")
