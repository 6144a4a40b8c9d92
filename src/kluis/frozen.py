"""Frozen dataclasses that cost little: when their class is made, and when an instance is.

``dataclasses`` compiles six methods for each frozen class, which takes half a millisecond, and gives it an
``__init__`` that sets each field with ``object.__setattr__``, which costs more than everything else in it.
Here the classes share all methods but ``__init__``. An instance has a twin of its class, the same but not
frozen, while its fields are set, and its own class from then on. See
``docs/decisions/0019-made-before-frozen.md``.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Any, Final, Never, TypeVar, dataclass_transform, overload

T = TypeVar("T")
_SET_CLASS: Final = object.__dict__["__class__"].__set__
_COMPARED: Final = "__compared__"


@overload
def frozen(cls: type[T], /) -> type[T]: ...
@overload
def frozen(*, kw_only: bool = ..., eq: bool = ...) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def frozen(cls: type | None = None, /, *, kw_only: bool = False, eq: bool = True) -> Any:
    """Make a class what ``dataclasses.dataclass(frozen=True, slots=True)`` makes it.

    A subclass must be made by this, too, or have another ``__init__``.

    Args:
        cls: the class.
        kw_only: its fields are keyword-only parameters.
        eq: instances are compared and hashed by their fields; otherwise by identity.
    """
    return _make(cls, kw_only, eq) if cls is not None else lambda cls: _make(cls, kw_only, eq)


def _make(cls: type, kw_only: bool, eq: bool) -> Any:
    own = set(vars(cls))
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
    shared: dict[str, Any] = {
        "__repr__": _repr,
        "__setattr__": _refuse_to_set,
        "__delattr__": _refuse_to_delete,
        "__setstate__": _set_state,
    }
    if eq:
        compared = [field.name for field in dataclasses.fields(made) if field.compare]
        setattr(made, _COMPARED, operator.attrgetter(*compared) if compared else type)
        shared |= {"__eq__": _equal, "__hash__": _hash}
    for name in shared.keys() - own:
        setattr(made, name, shared[name])
    if "__init__" not in own:
        made.__init__ = _init(made)
    return made


def _init(made: Any) -> Any:
    """Compile ``__init__`` of the names of the fields, as ``dataclasses`` does."""
    thawed = {"__slots__": (), "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    # No field has a name of this form, so no parameter hides one of these.
    names = {
        "__set_class__": _SET_CLASS,
        "__frozen__": made,
        "__thawed__": type(made.__name__, (made,), thawed),
        "__missing__": _FACTORY,
    }
    parameters, lines, annotations = ["self"], ["__set_class__(self, __thawed__)"], dict[str, Any]()
    for field in sorted(dataclasses.fields(made), key=lambda field: bool(field.kw_only)):
        name, default, factory = field.name, f"__default_{field.name}__", f"__factory_{field.name}__"
        names |= {default: field.default, factory: field.default_factory}
        value = name
        if field.default_factory is not dataclasses.MISSING:
            value = f"{factory}() if {name} is __missing__ else {name}" if field.init else f"{factory}()"
            names[default] = _FACTORY
        elif not field.init:
            value = default
        if names[default] is not dataclasses.MISSING or field.init:
            lines.append(f"self.{name} = {value}")
        if field.init:
            if field.kw_only and "*" not in parameters:
                parameters.append("*")
            annotations[name] = field.type
            parameters.append(name if names[default] is dataclasses.MISSING else f"{name}={default}")
    lines.append("self.__class__ = __frozen__")
    if hasattr(made, "__post_init__"):
        lines.append("self.__post_init__()")
    source = "\n ".join((f"def __init__({', '.join(parameters)}):", *lines))
    exec(source, names)  # noqa: S102  # made only of field names, as in dataclasses
    init: Any = names["__init__"]
    init.__qualname__, init.__module__ = f"{made.__qualname__}.__init__", made.__module__
    init.__annotations__ = annotations | {"return": None}
    return init


class _Factory:
    def __repr__(self) -> str:
        return "<factory>"


_FACTORY: Final = _Factory()


def _repr(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in dataclasses.fields(self) if each.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _equal(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self.__compared__(self) == other.__compared__(other)


def _hash(self: Any) -> int:
    return hash(self.__compared__(self))


def _refuse_to_set(_self: Any, name: str, _value: object) -> Never:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: Any, name: str) -> Never:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _set_state(self: Any, state: tuple[None, dict[str, Any]]) -> None:
    """What ``object.__getstate__`` returned of another instance."""
    for name, value in state[1].items():
        object.__setattr__(self, name, value)
