"""``kluis policy lint``, ``eval``, ``test``: the attestation service's policies, offline.

These are policies in Azure Attestation's language, which a service evaluates over claims. ``kluis appraise``
reads another kind (``kluis policy init``, ``check``); ``test`` takes both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kluis import installing
from kluis.cli import render
from kluis.cli.evidence import cases as appraised
from kluis.cli.evidence import files
from kluis.cli.parameters import Now, argument, option
from kluis.errors import FormatError, KluisError, PolicyError, UnavailableError, UsageError
from kluis.formats.encoding import jcs

if TYPE_CHECKING:
    from kluis.services.attestation.language import Claim, Outcome, Policy
    from kluis.services.attestation.language.claims import Value
    from kluis.services.attestation.language.syntax import Warned

PolicyFile = Annotated[Path, argument("The policy, or - for stdin.")]
MAX_CLAIMS = 1 << 20
_CLAIMS = (
    "claims are a JSON object of names and values, as a token's are once decoded: text, integers, true, "
    "false, objects, or lists of these"
)
_CASE = {"name": str, "claims": dict, "custom": dict, "token": dict, "permitted": bool}
# The other kind of policy: TOML, whose version is a whole number, whose line has no semicolon, and whose
# brackets contain no comparison.
_APPRAISAL = re.compile(r"(?:\s|#.*\n)*(?:version\s*=\s*\d+\s*(?:#.*)?\n|\[[^<=>\n]*\]\s*(?:#.*)?(?:\n|\Z))")


def lint(policy: PolicyFile) -> None:
    """Check an attestation service's policy for errors and unusual syntax."""
    read = _policy(policy)
    warned = sorted((*read.warnings, *_never(read)), key=lambda each: (each.place.line, each.place.column))
    rules = {section.value: len(rules) for section, rules in read.sections.items()}
    version = ".".join(map(str, read.version))
    warnings = [
        {"line": each.place.line, "column": each.place.column, "problem": each.problem} for each in warned
    ]
    lines = [f"{policy}:{each.place}: warning: {each.problem}" for each in warned]
    lines.append(
        f"version {version}: " + ", ".join(f"{count} in {section}" for section, count in rules.items())
    )
    render.out({"version": version, "rules": rules, "warnings": warnings}, render.fold("\n".join(lines)))


def _never(policy: Policy) -> Iterator[Warned]:
    """Warnings about what a service accepts and what never has an effect, whatever the claims are."""
    from kluis.services.attestation.language import queries
    from kluis.services.attestation.language.syntax import Call, Literal, Place, Section, Verb, Warned

    for rules in policy.sections.values():
        for rule in rules:
            expressions = [test.expression for condition in rule.conditions for test in condition.tests]
            expressions += [each.expression for each in rule.action.properties]
            while expressions:
                call = expressions.pop()
                if not isinstance(call, Call):
                    continue
                expressions += call.arguments
                query = call.arguments[-1]
                if call.function == "JmesPath" and isinstance(query, Literal):
                    wrong = queries.problem(str(query.value))
                    if wrong is not None:
                        yield Warned(call.place, wrong)
    permits = policy.rules(Section.AUTHORIZATION)
    if not any(rule.action.verb is Verb.PERMIT for rule in permits):
        yield Warned(Place(1, 1), "no rule permits: every attestation is denied")


def eval_(
    policy: PolicyFile,
    claims: Annotated[Path, option("The service's claims: a JSON object of names and values.", "FILE")],
    custom: Annotated[
        Path | None, option("The client's claims, in the same form (issuer CustomClaim).", "FILE")
    ] = None,
) -> int:
    """Evaluate an attestation service's policy over claims.

    Shows every rule and the token's claims.
    """
    outcome = _run(_policy(policy), _read_claims(claims), _read_claims(custom) if custom else {})
    render.out(
        {
            "permitted": outcome.permitted,
            "token": outcome.issued,
            "properties": outcome.properties,
            "rules": [
                {
                    "section": step.section.value,
                    "line": step.rule.place.line,
                    "column": step.rule.place.column,
                    "rule": step.rule.text,
                    "ran": step.ran,
                    "told": step.summary(),
                }
                for step in outcome.steps
            ],
        },
        render.fold("\n".join(_lines(outcome))),
    )
    return 0 if outcome.permitted else PolicyError.exit_code


def test_(
    policy: PolicyFile,
    cases: Annotated[Path, argument("TOML with a [[case]] for each test, or a folder of such files.")],
    now: Now = None,  # noqa: PT028 - of a command, and not of a test
) -> int:
    """Run a policy over test cases, and check each result.

    For a policy of kluis appraise, a case has name, evidence and verdict: affirming, warning,
    contraindicated or refused. For an attestation service's policy it has name, claims and permitted.

    For example: kluis policy test policy.toml cases.toml
    """
    data = files.read(policy)
    if _APPRAISAL.match(data.decode(errors="replace")):
        return appraised.run(policy, data, cases, now)
    if now is not None:
        raise UsageError("--now: want a policy of kluis appraise, got an attestation service's")
    read = _parse_policy(policy, data)
    found = appraised.tables(cases, _CASE, ("name", "claims", "permitted"))
    return appraised.report((case["name"], _judge_case(read, case)) for _, case in found)


def _lines(outcome: Outcome) -> list[str]:
    lines = [f"{'ran ' if step.ran else 'not '}  {step.section}: {step.summary()}" for step in outcome.steps]
    for what, claims in (("token", outcome.issued), ("asks ", outcome.properties)):
        lines += [f"{what} {name} = {_spelt(value)}" for name, value in claims.items()]
    return [*lines, "permitted" if outcome.permitted else "denied"]


def _spelt(value: Value | list[Value]) -> str:
    from kluis.services.attestation.language.claims import shown_value

    return f"[{', '.join(map(_spelt, value))}]" if isinstance(value, list) else shown_value(value)


def _judge_case(policy: Policy, case: dict[str, Any]) -> str:
    """What is wrong with a case; empty if nothing is."""
    try:
        outcome = _run(policy, case["claims"], case.get("custom", {}))
    except UsageError as error:
        raise UsageError(f"case {case['name']!a:.80}: {error.message}") from None
    except PolicyError as error:
        return error.message if case["permitted"] else ""
    if outcome.permitted is not case["permitted"]:
        want, got = ("permitted", "denied") if case["permitted"] else ("denied", "permitted")
        return f"want {want}, got {got}"
    if "token" in case and _mark_types(outcome.issued) != _mark_types(case["token"]):
        return f"want token {case['token']!r}, got {outcome.issued!r}"
    return ""


def _run(policy: Policy, claims: dict[str, Any], custom: dict[str, Any]) -> Outcome:
    from kluis.services.attestation import language
    from kluis.services.attestation.language.claims import of_mapping
    from kluis.services.attestation.policies.own_claims import check_issued, incoming

    for key, value in claims.items():
        if not isinstance(value, (str, int, list, dict)):
            raise UsageError(
                f"claim {key!a:.80}: want text, an integer, a boolean, a list or an object, got {value!a:.80}"
            )
    available: list[Claim] = [*incoming(claims), *of_mapping(custom, language.Issuer.CUSTOM)]
    outcome = language.evaluate(policy, available)
    check_issued(outcome.issued, claims)
    return outcome


def _mark_types(value: Any) -> Any:
    """A value such that equal values of different types (text, integers and booleans) compare as
    different.
    """
    match value:
        case dict():
            return {key: _mark_types(each) for key, each in value.items()}
        case list():
            return list(map(_mark_types, value))
        case _:
            return type(value), value


def _read_claims(path: Path) -> dict[str, Any]:
    data = files.read(path)
    try:
        value = jcs.loads(data, f"{path}", max_size=MAX_CLAIMS)
    except FormatError as error:
        error.hint = _CLAIMS
        raise
    if not isinstance(value, dict):
        raise UsageError(f"{path}: want a JSON object of claims", hint=_CLAIMS)
    return value


def _policy(path: Path) -> Policy:
    return _parse_policy(path, files.read(path))


def _parse_policy(path: Path, data: bytes) -> Policy:
    try:
        from kluis.services.attestation import language
    except ImportError as error:
        raise UnavailableError(
            f"policies of the attestation service: {error.name} is not installed",
            hint=installing.command_for("services"),
        ) from None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise FormatError(f"{path}: is not UTF-8", code="bad_encoding") from None
    if _APPRAISAL.match(text):
        raise UsageError(
            f"{path}: is a policy of kluis appraise, which no service reads",
            hint=f"kluis policy check {path} reads it, and reports what is wrong with it",
        )
    try:
        return language.parse(text)
    except language.PolicyParsingError as error:
        raise _point_at(error, text) from None


def _point_at(error: KluisError, text: str) -> KluisError:
    """The same error, with the line and a mark under the column as its hint."""
    place = getattr(error, "place", None)
    if place is not None:
        line = text.split("\n")[place.line - 1].rstrip("\r")
        line = "".join(each if each.isprintable() else "\ufffd" for each in line)  # one for one: columns stay
        start = max(0, place.column - 60)
        error.hint = (
            f"line {place.line}:\n  {line[start : start + 78]}\n  {' ' * (place.column - 1 - start)}^"
        )
    return error


COMMANDS = (appraised.check, lint, eval_, test_)
