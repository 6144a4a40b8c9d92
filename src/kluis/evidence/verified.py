"""A type for verified values. Only verifiers create one."""

from __future__ import annotations

from typing import Generic, Never, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Verified(Generic[T_co]):
    """A verified value; a function that takes one cannot receive unchecked claims.

    It cannot be created, copied or pickled by hand: only :mod:`kluis.evidence` mints it.
    """

    __slots__ = ("_value",)
    _value: T_co

    def __init__(self) -> None:
        raise TypeError("Verified: only a verifier makes one")

    def __init_subclass__(cls) -> Never:
        raise TypeError("Verified: cannot be subclassed")

    def __setattr__(self, name: str, _: object) -> Never:
        raise AttributeError(f"Verified: {name} cannot be set")

    def __reduce__(self) -> Never:
        raise TypeError("Verified: cannot be copied or pickled; verify the evidence again")

    def __repr__(self) -> str:
        return f"Verified({self._value!r})"

    @property
    def value(self) -> T_co:
        """The verified value."""
        return self._value


def mint(value: T_co) -> Verified[T_co]:  # type: ignore[misc]  # what goes in comes out, unchanged
    """Mark ``value`` as verified. For verifiers in :mod:`kluis.evidence`, after their last check."""
    made: Verified[T_co] = object.__new__(Verified)
    object.__setattr__(made, "_value", value)
    return made
