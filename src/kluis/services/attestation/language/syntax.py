"""The syntax tree of a policy, each part with its place in the text.

Spec: Microsoft Azure Attestation, "Policy version 1.0", "1.1", "1.2": grammar, sections, functions.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Final, TypeAlias

from kluis.frozen import frozen
from kluis.services.attestation.language.claims import Value


class Section(enum.StrEnum):
    """The sections of a policy, in order."""

    CONFIGURATION = "configurationrules"
    AUTHORIZATION = "authorizationrules"
    ISSUANCE = "issuancerules"


class Verb(enum.StrEnum):
    """The verb of a rule."""

    PERMIT = "permit"
    DENY = "deny"
    ADD = "add"
    ISSUE = "issue"
    ISSUE_PROPERTY = "issueproperty"


VERBS: Final[dict[Section, frozenset[Verb]]] = {
    Section.CONFIGURATION: frozenset({Verb.ISSUE_PROPERTY}),
    Section.AUTHORIZATION: frozenset({Verb.PERMIT, Verb.DENY, Verb.ADD, Verb.ISSUE}),
    Section.ISSUANCE: frozenset({Verb.ADD, Verb.ISSUE, Verb.ISSUE_PROPERTY}),
}
# The properties that configuration rules can set, and the kinds of their values.
CONFIGURATION: Final[Mapping[str, type]] = {
    "require_valid_aik_cert": bool,
    "required_pcr_mask": int,
    "x-ms-sgx-tcbidentifier": str,
}
_KINDS: Final = {bool: "true or false", int: "an integer", str: "a string"}
PROPERTIES: Final = ("type", "value", "valueType", "issuer")
# Each function, and its number of arguments.
FUNCTIONS: Final = {
    "JmesPath": 2,
    "JsonToClaimValue": 1,
    "IsSubsetOf": 2,
    "AppendString": 2,
    "NegateBool": 1,
    "ContainsOnlyValue": 2,
}
VERSIONS: Final = {"1.0": (1, 0), "1.1": (1, 1), "1.2": (1, 2)}


def configuration_problem(name: str, value: Value | None) -> str | None:
    """Why configuration rules cannot set a property; None if they can.

    Args:
        name: of the property.
        value: None if it is not known yet.
    """
    kind = CONFIGURATION.get(name)
    if kind is None:
        return f"configuration property {name[:64]!a} is not one of {', '.join(CONFIGURATION)}"
    if value is not None and type(value) is not kind:
        return f"configuration property {name} has a value of {_KINDS[kind]}"
    return None


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in the text: line and column from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@frozen
class Literal:
    """A literal value."""

    value: Value


@frozen
class Reference:
    """A property of the claims that an identifier is bound to."""

    identifier: str
    property: str
    place: Place


@frozen
class Call:
    """A function of values."""

    function: str
    arguments: tuple[Expression, ...]
    place: Place
    depth: int


Expression: TypeAlias = Literal | Reference | Call


@frozen
class Test:
    """One test of a claim's property."""

    property: str
    operator: str
    expression: Expression
    place: Place


@frozen
class Condition:
    """A filter for claims that pass every test; negated, that no claim does.

    Attributes:
        named: the required type of the claim, if a test states one; else None.
        others: the other tests.
    """

    negated: bool
    identifier: str | None
    tests: tuple[Test, ...]
    place: Place
    text: str
    named: Value | None = dataclasses.field(init=False)
    others: tuple[Test, ...] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        naming = next((test for test in self.tests if _names_a_type(test)), None)
        named = naming.expression.value if naming and isinstance(naming.expression, Literal) else None
        object.__setattr__(self, "named", named)
        object.__setattr__(self, "others", tuple(test for test in self.tests if test is not naming))


def _names_a_type(test: Test) -> bool:
    return test.property == "type" and test.operator == "==" and isinstance(test.expression, Literal)


@frozen
class Property:
    """A property of an issued claim."""

    name: str
    expression: Expression
    place: Place


@frozen
class Action:
    """The action if all conditions match.

    Attributes:
        verb: of the action.
        copied: the identifier whose claims are copied, or None.
        properties: of the issued claim.
        place: of the verb.
    """

    verb: Verb
    copied: str | None
    properties: tuple[Property, ...]
    place: Place


@frozen
class Rule:
    """Conditions and an action."""

    conditions: tuple[Condition, ...]
    action: Action
    place: Place
    text: str


@frozen
class Warned:
    """Something that is accepted, but deviates from the language's specification."""

    place: Place
    problem: str


@frozen
class Policy:
    """A complete, checked policy.

    Attributes:
        version: 1.0, 1.1 or 1.2.
        sections: the rules of each section present.
        warnings: in the order of the text.
        text: unchanged.
    """

    version: tuple[int, int]
    sections: dict[Section, tuple[Rule, ...]]
    warnings: tuple[Warned, ...]
    text: str

    def reads(self) -> frozenset[str] | None:
        """The types of claims in its conditions; None if a condition matches any type."""
        names: set[str] = set()
        for rules in self.sections.values():
            for rule in rules:
                for condition in rule.conditions:
                    if condition.named is None:
                        return None
                    names.add(str(condition.named))
        return frozenset(names)

    def rules(self, section: Section) -> tuple[Rule, ...]:
        """The rules of a section; empty if it is absent."""
        return self.sections.get(section, ())
