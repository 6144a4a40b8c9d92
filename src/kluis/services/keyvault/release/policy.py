"""Parse release policies: the authorities that may attest an environment, and the required claims.

    policy    = { "version"?: "1.0.0", "anyOf": [ authority, ... ] }
    authority = { "authority": URL, "allOf" or "anyOf": [ condition, ... ] }
    condition = { "claim": NAME, "equals": VALUE } | { "allOf": [...] } | { "anyOf": [...] }

The preview's style, ``{"claim", "condition": "equals", "value"}``, is also accepted. Values are compared as
text, so ``"true"`` in a policy matches the claim ``true``: Azure does so, and policies rely on it. A number
is any JSON number below 2^53, as in the grammar; ``1.50`` is ``1.5``, and ``1.0`` is ``1``.

Spec: Azure Key Vault, "Secure Key Release policy grammar".
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from kluis.appraisal.tokens.signed_claims import origin
from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.jcs import Json
from kluis.frozen import frozen
from kluis.services.keyvault.faults import BadParameter, Detail

MAX_SIZE: Final = 32 * 1024
MAX_DEPTH: Final = 16
MAX_AUTHORITIES: Final = 64
MAX_CONDITIONS: Final = 1024
MAX_NAME, MAX_VALUE, MAX_SHOWN, MAX_DETAILS = 256, 4096, 128, 16
VERSIONS: Final = ("1.0.0", "1.0")


@frozen
class Claim:
    """A claim that must equal ``text``, after conversion to text."""

    name: str
    text: str


@frozen
class Group:
    """Conditions of which all, or any, must match."""

    every: bool
    conditions: tuple[Claim | Group, ...]


@frozen
class Authority:
    """One authority, and the conditions on its claims."""

    url: str
    group: Group


@frozen
class ReleasePolicy:
    """A checked policy: any of its authorities is accepted."""

    authorities: tuple[Authority, ...]


@functools.lru_cache(maxsize=64)
def parse(data: bytes) -> ReleasePolicy:
    """Parse a policy: at most 32 KiB, 64 authorities, 1024 conditions, 16 levels.

    Raises:
        BadParameter: not a policy; with the place.
    """
    try:
        value = jcs.loads(data, "release policy", max_size=MAX_SIZE, max_depth=2 * MAX_DEPTH + 4, real=_real)
        return _policy(value)
    except FormatError as error:
        raise BadParameter(
            f"AKV.SKR.1004: Exportable keys must have release policy. {error.message}"
        ) from None


def judge(policy: ReleasePolicy, issuer: str, claims: Mapping[str, Any]) -> tuple[Detail, ...]:
    """The reasons why the claims do not meet the policy; empty if they do.

    Args:
        policy: checked.
        issuer: of the claims, in the form of :func:`origin`.
        claims: of a token with a verified signature.
    """
    ours = [each for each in policy.authorities if each.url == issuer]
    if not ours:
        want = " or ".join(each.url for each in policy.authorities[:8])
        return (Detail("authority", "iss", f"want {want}, got {_cut(issuer)}"),)
    missed: list[Detail] = []
    for each in ours:
        reasons = list(_misses(each.group, claims))
        if not reasons:
            return ()
        missed += reasons
    return tuple(missed[:MAX_DETAILS])


def text_of(value: object) -> str | None:
    """Convert a claim or a policy's value to text; None unless it is text, a number or a boolean.

    A number written with a fraction or an exponent is refused if it is so large that neighbouring integers
    are the same float: equal text would not mean equal numbers.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, float) and abs(value) <= jcs.MAX_INTEGER:
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value) if isinstance(value, int) else None


def lookup(claims: Mapping[str, Any], name: str) -> object:
    """Find a claim by its name, or by the path in the name's dots; None if there is none."""
    if name in claims:
        return claims[name]
    head, dot, rest = name.partition(".")
    inner = claims.get(head)
    return lookup(inner, rest) if dot and isinstance(inner, dict) else None


def _real(digits: str) -> Json:
    return cast("Json", float(digits))


def _misses(condition: Claim | Group, claims: Mapping[str, Any]) -> Iterator[Detail]:
    if isinstance(condition, Claim):
        value = lookup(claims, condition.name)
        if value is None or text_of(value) != condition.text:
            yield Detail(
                "claim", condition.name, f"want {_cut(condition.text)}, got {_describe_claim(value)}"
            )
        return
    every = [list(_misses(each, claims)) for each in condition.conditions]
    if condition.every or all(every):
        for reasons in every:
            yield from reasons


def _policy(value: Json) -> ReleasePolicy:
    what = "release policy"
    members = _object(value, what, {"version", "anyOf"})
    version = members.get("version", VERSIONS[0])
    if version not in VERSIONS:
        raise FormatError(f"{what}.version: want {' or '.join(VERSIONS)}, got {_cut(str(version))!a}")
    listed = _array(members.get("anyOf"), f"{what}.anyOf", MAX_AUTHORITIES)
    left = [MAX_CONDITIONS]
    return ReleasePolicy(
        tuple(_authority(each, f"{what}.anyOf[{at}]", left) for at, each in enumerate(listed))
    )


def _authority(value: Json, what: str, left: list[int]) -> Authority:
    members = _object(value, what, {"authority", "allOf", "anyOf"})
    try:
        url = origin(members.get("authority"))
    except FormatError as error:
        raise FormatError(f"{what}.{error.message}") from None
    return Authority(
        url, _group({name: members[name] for name in members if name != "authority"}, what, left, 1)
    )


def _group(members: Mapping[str, Json], what: str, left: list[int], depth: int) -> Group:
    names = [name for name in ("allOf", "anyOf") if name in members]
    if len(names) != 1 or depth > MAX_DEPTH:
        got = " and ".join(names) or "neither"
        raise FormatError(f"{what}: want allOf or anyOf, at most {MAX_DEPTH} levels deep, got {got}")
    name = names[0]
    listed = _array(members[name], f"{what}.{name}", MAX_CONDITIONS)
    made = tuple(_condition(each, f"{what}.{name}[{at}]", left, depth) for at, each in enumerate(listed))
    return Group(name == "allOf", made)


def _condition(value: Json, what: str, left: list[int], depth: int) -> Claim | Group:
    left[0] -= 1
    if left[0] < 0:
        raise FormatError(f"release policy: want at most {MAX_CONDITIONS} conditions, got more")
    if isinstance(value, dict) and "claim" not in value:
        return _group(_object(value, what, {"allOf", "anyOf"}), what, left, depth + 1)
    members = _object(value, what, {"claim", "equals", "condition", "value"})
    name = members["claim"]
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise FormatError(f"{what}.claim: want 1 to {MAX_NAME} characters, got another")
    if "equals" in members:
        if len(members) != 2:
            raise FormatError(f"{what}: want claim and equals, got {', '.join(sorted(members))}")
        wanted = members["equals"]
    else:
        # The preview's style.
        if members.get("condition") != "equals" or "value" not in members:
            raise FormatError(f"{what}: want claim and equals, got {', '.join(sorted(members))}")
        wanted = members["value"]
    text = text_of(wanted)
    if text is None or len(text) > MAX_VALUE:
        raise FormatError(f"{what}.equals: want text, a number below 2^53 or a truth, got another")
    return Claim(name, text)


def _object(value: Json, what: str, known: set[str]) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise FormatError(f"{what}: want an object, got another")
    if unknown := sorted(set(value) - known):
        raise FormatError(f"{what}: want {', '.join(sorted(known))}, got {_cut(unknown[0])!a}")
    return value


def _array(value: Json, what: str, most: int) -> list[Json]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        got = len(value) if isinstance(value, list) else "no list"
        raise FormatError(f"{what}: want a list of 1 to {most}, got {got}")
    return value


def _describe_claim(value: object) -> str:
    if value is None:
        return "no such claim"
    text = text_of(value)
    return _cut(text) if text is not None else "a claim that is not one value"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
