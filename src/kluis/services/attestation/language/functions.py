"""The functions of version 1.2: operate on sets of values, and track whether these are read-only.

Spec: Microsoft Azure Attestation, "Policy version 1.2", "Policy functions"; JMESPath, with the one
function ``equals_ignore_case`` that Azure adds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from jmespath.exceptions import JMESPathError

from kluis.errors import PolicyError
from kluis.frozen import frozen
from kluis.services.attestation.language import queries
from kluis.services.attestation.language.claims import MOST_INTEGER, Value
from kluis.services.attestation.language.queries import MAX_JSON, NotJsonError, Work

MAX_VALUES: Final = 16_384
# Comparing this number of characters costs as much as comparing a number.
CHARACTERS_A_LOOK: Final = 1024


@frozen
class Values:
    """A set of values, in order; read-only if one of its sources is a read-only claim."""

    members: tuple[Value, ...]
    read_only: bool = False

    def only(self, kind: type[Value], what: str) -> Any:
        """The only member, of ``kind``.

        Raises:
            PolicyError: no member, several, or one of another kind.
        """
        if len(self.members) != 1 or type(self.members[0]) is not kind:
            got = ", ".join(type(member).__name__ for member in self.members[:3]) or "nothing"
            raise _failure(f"{what}: want one {kind.__name__}, got {got}")
        return self.members[0]


def looks(members: Iterable[Value]) -> int:
    """The cost of comparing one value with all of these."""
    return sum(1 + len(each) // CHARACTERS_A_LOOK if isinstance(each, str) else 1 for each in members)


def unique(members: list[Value]) -> tuple[Value, ...]:
    """Each member once, by type and value, in order."""
    return tuple({(type(member), member): member for member in members}.values())


def call(name: str, arguments: list[Values], work: Work) -> Values:
    """Call a function whose number of arguments was checked.

    Args:
        name: of the function.
        arguments: as many as it takes.
        work: the policy's remaining work, from which the call's cost is deducted.

    Raises:
        PolicyError: code ``policy_evaluation``; an argument is of another type, or the work limit is
            exceeded.
    """
    work.step(sum(looks(argument.members) for argument in arguments))
    members = _FUNCTIONS[name](work, *arguments)
    _check_whole(name, members)
    followed = name not in ("IsSubsetOf", "ContainsOnlyValue")
    return Values(members, followed and any(argument.read_only for argument in arguments))


def _jmes_path(work: Work, text: Values, query: Values) -> tuple[Value, ...]:
    document, expression = text.only(str, "JmesPath"), query.only(str, "JmesPath")
    try:
        return (queries.answer(document, expression, work),)
    except (JMESPathError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise _failure(f"JmesPath: {queries.first_line(error)}") from None


def _json_to_claim_value(work: Work, text: Values) -> tuple[Value, ...]:
    raw = text.only(str, "JsonToClaimValue")
    if len(raw) > MAX_JSON:
        raise _failure(f"JsonToClaimValue: want at most {MAX_JSON} characters, got {len(raw)}")
    work.read(raw)
    try:
        value = queries.read_json(raw)
    except (json.JSONDecodeError, NotJsonError):
        return (raw,)
    except (ValueError, RecursionError) as error:
        raise _failure(f"JsonToClaimValue: {queries.first_line(error)}") from None
    if value is None:
        return ()
    members = value if isinstance(value, list) else [value]
    work.step(len(members))
    if len(members) > MAX_VALUES:
        raise _failure(f"JsonToClaimValue: want at most {MAX_VALUES} values, got {len(members)}")
    for member in members:
        if not isinstance(member, (str, int)) or (
            isinstance(member, int) and not -MOST_INTEGER - 1 <= member <= MOST_INTEGER
        ):
            raise _failure(f"JsonToClaimValue: want text, integers and booleans, got {type(member).__name__}")
    return unique(members)


def _is_subset_of(_: Work, part: Values, whole: Values) -> tuple[Value, ...]:
    return (set(_with_types(part)) <= set(_with_types(whole)),)


def _append_string(work: Work, first: Values, second: Values) -> tuple[Value, ...]:
    head, tail = first.only(str, "AppendString"), second.only(str, "AppendString")
    if len(head) + len(tail) > MAX_JSON:
        raise _failure(f"AppendString: want at most {MAX_JSON} characters, got {len(head) + len(tail)}")
    work.write(len(head) + len(tail))
    return (head + tail,)


def _negate_bool(_: Work, value: Values) -> tuple[Value, ...]:
    return (not value.only(bool, "NegateBool"),)


def _contains_only_value(_: Work, values: Values, value: Values) -> tuple[Value, ...]:
    if len(value.members) != 1:
        raise _failure(f"ContainsOnlyValue: want one value, got {len(value.members)}")
    return (_with_types(values) == _with_types(value),)


_FUNCTIONS: Final[dict[str, Callable[..., tuple[Value, ...]]]] = {
    "JmesPath": _jmes_path,
    "JsonToClaimValue": _json_to_claim_value,
    "IsSubsetOf": _is_subset_of,
    "AppendString": _append_string,
    "NegateBool": _negate_bool,
    "ContainsOnlyValue": _contains_only_value,
}


def _check_whole(name: str, members: tuple[Value, ...]) -> None:
    """Refuse half a surrogate pair, which JSON can express but no token can."""
    for member in members:
        if isinstance(member, str) and not member.isascii():
            try:
                member.encode()
            except UnicodeEncodeError:
                raise _failure(f"{name}: want whole characters, got half of one") from None


def _with_types(values: Values) -> list[tuple[type, Value]]:
    return [(type(member), member) for member in unique(list(values.members))]


def _failure(problem: str) -> PolicyError:
    return PolicyError(f"policy: {problem}", code="policy_evaluation")
