"""Check what the grammar cannot express: verbs, properties, functions and identifiers of a policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from kluis.services.attestation.language.syntax import (
    FUNCTIONS,
    PROPERTIES,
    VERBS,
    Action,
    Call,
    Expression,
    Literal,
    Place,
    Policy,
    Reference,
    Rule,
    Section,
    Verb,
    configuration_problem,
)

Refuse: TypeAlias = Callable[[str, Place, str], Exception]
_COMPARES = frozenset({"<", "<=", ">", ">="})


def check(policy: Policy, *, refuse: Refuse) -> None:
    """Check a parsed policy.

    Args:
        policy: as parsed.
        refuse: builds the error from a problem, its place and the rule of the grammar.

    Raises:
        Exception: from ``refuse``.
    """
    for section, rules in policy.sections.items():
        for rule in rules:
            for problem, place in _of_rule(rule, section, policy.version):
                raise refuse(problem, place, f"policy > {section}")


def _of_rule(rule: Rule, section: Section, version: tuple[int, int]) -> Iterator[tuple[str, Place]]:
    bound: set[str] = set()
    for condition in rule.conditions:
        if condition.negated and version < (1, 2):
            yield "a negated condition needs version 1.2", condition.place
        for test in condition.tests:
            if test.property not in PROPERTIES:
                yield f"property {test.property!a} is not one of {', '.join(PROPERTIES)}", test.place
            yield from _of_expression(test.expression, bound, version)
            if (
                test.operator in _COMPARES
                and isinstance(test.expression, Literal)
                and (isinstance(test.expression.value, bool) or not isinstance(test.expression.value, int))
            ):
                yield f"{test.operator} compares integers", test.place
        if condition.identifier is not None:
            if condition.negated:
                yield f"a negated condition matches nothing to call {condition.identifier!a}", condition.place
            if condition.identifier in bound:
                yield f"identifier {condition.identifier!a} appears twice", condition.place
            bound.add(condition.identifier)
    yield from _of_action(rule, section, bound, version)


def _of_action(
    rule: Rule, section: Section, bound: set[str], version: tuple[int, int]
) -> Iterator[tuple[str, Place]]:
    action = rule.action
    if action.verb not in VERBS[section]:
        allowed = ", ".join(sorted(VERBS[section]))
        yield f"{action.verb} is no verb of {section}; those are {allowed}", action.place
    names = [each.name for each in action.properties]
    if len(names) > len(PROPERTIES):
        yield f"a claim has at most {len(PROPERTIES)} properties, got {len(names)}", action.place
        return
    if action.verb in (Verb.PERMIT, Verb.DENY):
        if names or action.copied is not None:
            yield f"{action.verb} takes no argument", action.place
        return
    if action.copied is not None:
        if names:
            yield "claim=... must be the only property", action.place
        if action.copied not in bound:
            yield f"identifier {action.copied!a} is not bound by this rule", action.place
        return
    for index, each in enumerate(action.properties):
        if each.name not in PROPERTIES:
            yield f"property {each.name!a} is not one of {', '.join(PROPERTIES)}", each.place
        if each.name in names[:index]:
            yield f"property {each.name!a} appears twice", each.place
    for needed in ("type", "value"):
        if needed not in names:
            yield f"{action.verb} needs {needed}=...", action.place
    for each in action.properties:
        yield from _of_expression(each.expression, bound, version)
    if section is Section.CONFIGURATION:
        yield from _of_configuration(action)


def _of_configuration(action: Action) -> Iterator[tuple[str, Place]]:
    """Check the names that only the service defines: an unknown one would have no effect."""
    values = {
        each.name: each.expression.value for each in action.properties if isinstance(each.expression, Literal)
    }
    if "type" in values and (problem := configuration_problem(str(values["type"]), values.get("value"))):
        yield problem, action.place


def _of_expression(
    expression: Expression, bound: set[str], version: tuple[int, int]
) -> Iterator[tuple[str, Place]]:
    # Calls nest at most 16 deep: the parser checked it.
    if isinstance(expression, Reference):
        if expression.identifier not in bound:
            yield f"identifier {expression.identifier!a} is not bound by this rule", expression.place
        if expression.property not in PROPERTIES:
            yield f"property {expression.property!a} is not one of {', '.join(PROPERTIES)}", expression.place
    elif isinstance(expression, Call):
        wanted = FUNCTIONS.get(expression.function)
        if version < (1, 2):
            yield f"function {expression.function} needs version 1.2", expression.place
        if wanted is None:
            yield f"function {expression.function!a} is not one of {', '.join(FUNCTIONS)}", expression.place
        elif wanted != len(expression.arguments):
            got = len(expression.arguments)
            yield f"{expression.function}: want {wanted} arguments, got {got}", expression.place
        for argument in expression.arguments:
            yield from _of_expression(argument, bound, version)
