"""Frozen dataclasses whose creation costs as little as that of other dataclasses.

``dataclasses`` gives a frozen class an ``__init__`` that sets each field with ``object.__setattr__``, which
costs more than everything else in it. Here an instance has a twin of its class, the same but not frozen,
while its fields are set, and its own class from then on. See ``docs/decisions/0019-made-before-frozen.md``.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Final, TypeVar

T = TypeVar("T")
_SET_CLASS: Final = object.__dict__["__class__"].__set__


def made_quickly(cls: type[T]) -> type[T]:
    """Make instances of a frozen dataclass with slots cheap to create, without any other change.

    Raises:
        TypeError: at class creation, if it is not such a dataclass, or if creating an instance does more than
            set its fields.
    """
    made: Any = cls
    fields = dataclasses.fields(made)
    if not (made.__dataclass_params__.frozen and "__slots__" in vars(cls)):
        raise TypeError(f"{cls.__name__}: want a frozen dataclass with slots")
    if hasattr(cls, "__post_init__") or not all(
        field.init and field.default_factory is dataclasses.MISSING for field in fields
    ):
        raise TypeError(f"{cls.__name__}: is made by more than setting its fields")
    thawed = {"__slots__": (), "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    names = {"set_class": _SET_CLASS, "frozen": cls, "thawed": type(cls.__name__, (cls,), thawed)}
    parameters = ["self"]
    for field in sorted(fields, key=lambda field: bool(field.kw_only)):
        if field.kw_only and "*" not in parameters:
            parameters.append("*")
        default = field.default is not dataclasses.MISSING
        parameters.append(f"{field.name}=default_{field.name}" if default else field.name)
        names[f"default_{field.name}"] = field.default
    source = "\n ".join(
        (
            f"def __init__({', '.join(parameters)}):",
            "set_class(self, thawed)",
            *(f"self.{field.name} = {field.name}" for field in fields),
            "self.__class__ = frozen",
        )
    )
    exec(source, names)  # noqa: S102  # made only of field names, as in dataclasses
    made.__init__ = functools.update_wrapper(names["__init__"], made.__init__)
    return cls
