"""The functions of version 1.2: values in, values out, and whether they are for reading only.

Spec: Microsoft Azure Attestation, "Policy version 1.2", "Policy functions"; JMESPath, with the one
function ``equals_ignore_case`` that Azure adds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any, Final

import jmespath
from jmespath import functions as jmespath_functions
from jmespath.exceptions import JMESPathError

from kluis.errors import PolicyError
from kluis.services.attestation.policy.claims import MOST_INTEGER, Value

MAX_JSON: Final = 4 << 20
# A query may make its document so many times larger, and no more: each list or object that it builds
# multiplies by its members, and a short text of them would outgrow any memory.
MAX_GROWTH: Final = 4096
_BUILDERS: Final = frozenset({"multi_select_list", "multi_select_dict"})


@dataclasses.dataclass(frozen=True, slots=True)
class Values:
    """A set of values, in order; read-only where a read-only claim went into it."""

    members: tuple[Value, ...]
    read_only: bool = False

    def only(self, kind: type[Value], what: str) -> Any:
        """The one member, of ``kind``.

        Raises:
            PolicyError: none, several, or one of another kind.
        """
        if len(self.members) != 1 or type(self.members[0]) is not kind:
            got = ", ".join(type(member).__name__ for member in self.members[:3]) or "nothing"
            raise _failed(f"{what}: want one {kind.__name__}, got {got}")
        return self.members[0]


def unique(members: list[Value]) -> tuple[Value, ...]:
    """Each member once, by type and value, in order."""
    return tuple({(type(member), member): member for member in members}.values())


def call(name: str, arguments: list[Values]) -> Values:
    """Call a function whose number of arguments was checked.

    Raises:
        PolicyError: code ``policy_evaluation``; an argument is of another type.
    """
    members = _FUNCTIONS[name](*arguments)
    followed = name not in ("IsSubsetOf", "ContainsOnlyValue")
    return Values(members, followed and any(argument.read_only for argument in arguments))


def _jmes_path(text: Values, query: Values) -> tuple[Value, ...]:
    document, expression = text.only(str, "JmesPath"), query.only(str, "JmesPath")
    try:
        compiled = jmespath.compile(expression)
        if _growth(compiled.parsed) > MAX_GROWTH:
            raise _failed(f"JmesPath: the query may grow its document more than {MAX_GROWTH} times")
        found = compiled.search(_json(document, "JmesPath"), _OPTIONS)
        written = _written(found)
    except (JMESPathError, ValueError, TypeError, RecursionError) as error:
        raise _failed(f"JmesPath: {_first_line(error)}") from None
    return (written,)


def _json_to_claim_value(text: Values) -> tuple[Value, ...]:
    raw = text.only(str, "JsonToClaimValue")
    try:
        value = json.loads(raw) if len(raw) <= MAX_JSON else raw
    except (ValueError, RecursionError):
        return (raw,)
    if value is None:
        return ()
    members = value if isinstance(value, list) else [value]
    for member in members:
        if not isinstance(member, (str, int)) or (
            isinstance(member, int) and not -MOST_INTEGER - 1 <= member <= MOST_INTEGER
        ):
            raise _failed(f"JsonToClaimValue: want text, integers and booleans, got {type(member).__name__}")
    return unique(members)


def _is_subset_of(part: Values, whole: Values) -> tuple[Value, ...]:
    return (set(_typed(part)) <= set(_typed(whole)),)


def _append_string(first: Values, second: Values) -> tuple[Value, ...]:
    head, tail = first.only(str, "AppendString"), second.only(str, "AppendString")
    if len(head) + len(tail) > MAX_JSON:
        raise _failed(f"AppendString: want at most {MAX_JSON} characters, got {len(head) + len(tail)}")
    return (head + tail,)


def _negate_bool(value: Values) -> tuple[Value, ...]:
    return (not value.only(bool, "NegateBool"),)


def _contains_only_value(values: Values, value: Values) -> tuple[Value, ...]:
    if len(value.members) != 1:
        raise _failed(f"ContainsOnlyValue: want one value, got {len(value.members)}")
    return (_typed(values) == _typed(value),)


_FUNCTIONS: Final[dict[str, Callable[..., tuple[Value, ...]]]] = {
    "JmesPath": _jmes_path,
    "JsonToClaimValue": _json_to_claim_value,
    "IsSubsetOf": _is_subset_of,
    "AppendString": _append_string,
    "NegateBool": _negate_bool,
    "ContainsOnlyValue": _contains_only_value,
}


class _Functions(jmespath_functions.Functions):  # type: ignore[misc]  # the package has no types
    @jmespath_functions.signature({"types": ["string"]}, {"types": ["array-string"]})  # type: ignore[untyped-decorator]  # likewise
    def _func_join(self, glue: str, parts: list[str]) -> str:
        if len(glue) * len(parts) + sum(map(len, parts)) > MAX_JSON:
            raise ValueError(f"join: want at most {MAX_JSON} characters")
        return glue.join(parts)

    @jmespath_functions.signature({"types": []}, {"types": []})  # type: ignore[untyped-decorator]  # likewise
    def _func_equals_ignore_case(self, first: object, second: object) -> bool:
        if not isinstance(first, str) or not isinstance(second, str):
            return False
        return first.casefold() == second.casefold()


_OPTIONS: Final = jmespath.Options(custom_functions=_Functions())


def _growth(node: dict[str, Any]) -> int:
    """How many times larger than its document a query's answer may be, at most."""
    growth = max(1, len(node["children"])) if node["type"] in _BUILDERS else 1
    for child in node["children"]:
        if isinstance(child, dict):
            growth = min(growth * _growth(child), MAX_GROWTH + 1)
    return growth


def _written(value: Any) -> str:
    """JSON of at most so many characters; parts that a query repeats are written each time."""
    size, parts = 0, []
    for part in _ENCODER.iterencode(value):
        size += len(part)
        if size > MAX_JSON:
            raise _failed(f"JmesPath: the answer is more than {MAX_JSON} characters")
        parts.append(part)
    return "".join(parts)


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _json(text: str, what: str) -> Any:
    if not text or len(text) > MAX_JSON:
        raise _failed(f"{what}: want JSON of at most {MAX_JSON} characters, got {len(text)}")
    return json.loads(text)


def _typed(values: Values) -> list[tuple[type, Value]]:
    return [(type(member), member) for member in unique(list(values.members))]


def _failed(problem: str) -> PolicyError:
    return PolicyError(f"policy: {problem}", code="policy_evaluation")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
