"""Convert values into typed structs; errors give the path of the faulty value as a person wrote it.

msgspec does the checks. Its errors name neither the key of a table nor the valid choices, so this module
locates the fault after a value was refused.
"""

from __future__ import annotations

import difflib
import enum
import re
import types
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from kluis.errors import FormatError

T = TypeVar("T")
_MOST_SHOWN: Final = 32
_WORDS: Final = {
    "`int`": "an integer",
    "`str`": "text",
    "`float`": "a number",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "a table",
    "`null`": "nothing",
}


def convert(value: Any, kind: type[T], what: str, hint: str | None = None) -> T:
    """Read a value, such as a TOML document, into ``kind``.

    Args:
        value: dicts, lists, text, numbers, times.
        kind: a msgspec struct, whose tables, lists and unions are structs in their turn.
        what: name for messages, such as a file name.
        hint: to give if no known name is similar to the one found.

    Raises:
        FormatError: the first key that is missing, unknown or of another kind, with its path:
            ``plan.toml.code.protection[0]: want process or vm, got 'proces'``.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        place, fault, near = _fault(value, kind, what) or (what, _plain(str(error), value), None)
        raise FormatError(f"{place}: {fault}", hint=f"did you mean {near}" if near else hint) from error


def check_members(members: dict[str, Any], kind: type[msgspec.Struct], what: str) -> None:
    """Check some members of a struct whose other members are stated elsewhere; none is required.

    Raises:
        FormatError: the first member that is unknown or of another kind, with its path.
    """
    if problem := _of_struct(members, kind, what, whole=False):
        place, fault, near = problem
        raise FormatError(f"{place}: {fault}", hint=f"did you mean {near}" if near else None)


_Fault = tuple[str, str, str | None]


def _fault(value: Any, kind: Any, place: str) -> _Fault | None:
    """The first fault below ``place``: where, what, and the word that was probably meant."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return _inner(value, kind, place) or (place, _plain(str(error), value), None)
    return None


def _inner(value: Any, kind: Any, place: str) -> _Fault | None:
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    origin, arguments = get_origin(bare), get_args(bare)
    if origin in (Union, types.UnionType):
        return _of_union(value, arguments, place)
    if origin is Literal or (isinstance(bare, type) and issubclass(bare, enum.Enum)):
        return _of_choice(value, [str(one) for one in (arguments or [each.value for each in bare])], place)
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return _of_struct(value, bare, place)
    if origin in (list, tuple, set, frozenset) and isinstance(value, list):
        faults = (_fault(each, arguments[0], f"{place}[{n}]") for n, each in enumerate(value))
        return next((one for one in faults if one), None)
    if origin is dict and isinstance(value, dict):
        faults = (_fault(each, arguments[1], f"{place}.{key}") for key, each in value.items())
        return next((one for one in faults if one), None)
    return None


def _of_choice(value: Any, choices: list[str], place: str) -> _Fault:
    got = ascii(value[:_MOST_SHOWN]) if isinstance(value, str) else type(value).__name__
    near = difflib.get_close_matches(value, choices, 1) if isinstance(value, str) else []
    return place, f"want {' or '.join(choices)}, got {got}", near[0] if near else None


def _of_union(value: Any, kinds: tuple[Any, ...], place: str) -> _Fault | None:
    kinds = tuple(one for one in kinds if one is not type(None))
    if len(kinds) == 1:
        return _inner(value, kinds[0], place)
    tagged = {}
    for one in kinds:
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            tagged[one.__struct_config__.tag] = one
    if not tagged or not isinstance(value, dict):
        return None
    field = str(next(iter(tagged.values())).__struct_config__.tag_field)
    if field not in value:
        return f"{place}.{field}", "is not stated", None
    if not isinstance(value[field], str) or value[field] not in tagged:
        return _of_choice(value[field], [str(tag) for tag in tagged], f"{place}.{field}")
    return _of_struct(value, tagged[value[field]], place)


def _of_struct(value: Any, kind: type[msgspec.Struct], place: str, *, whole: bool = True) -> _Fault | None:
    if not isinstance(value, dict):
        return None
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    tag = kind.__struct_config__.tag_field
    for key in value:
        if key not in fields and key != tag:
            near = difflib.get_close_matches(str(key), fields, 1)
            return f"{place}.{key}", f"want one of {', '.join(fields)}", near[0] if near else None
    for name, field in fields.items():
        if name in value:
            if fault := _fault(value[name], hints[field.name], f"{place}.{name}"):
                return fault
        elif whole and field.required:
            return f"{place}.{name}", "is not stated", None
    return None


def _plain(message: str, value: Any) -> str:
    """Rewrite msgspec's message in our form: ``Expected `int` >= 3`` becomes ``want an integer >= 3, got
    2``.
    """
    text = re.sub(r" - at `[^`]*`\Z", "", message)
    if not text.startswith("Expected "):
        return text[:1].lower() + text[1:]
    for theirs, ours in _WORDS.items():
        text = text.replace(theirs, ours)
    text = text.replace("Expected ", "want ", 1)
    return text if ", got " in text else f"{text}, got {ascii(value)[:_MOST_SHOWN]}"
