"""Evaluate a policy on claims: whether it permits, which claims it issues, and why not.

Spec: Microsoft Azure Attestation, "Policy", "Claim rules". Rules run once, in the order of the text, and a
rule sees the claims added by earlier rules. One executed ``deny`` outweighs every ``permit``. Configuration
rules control the processing of evidence, so they run before there are claims.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

from kluis.errors import PolicyError
from kluis.frozen import frozen
from kluis.services.attestation.language import functions
from kluis.services.attestation.language.claims import Claim, ClaimSet, Issuer, Value, shown_value
from kluis.services.attestation.language.functions import Values
from kluis.services.attestation.language.queries import Work, too_much
from kluis.services.attestation.language.syntax import (
    Action,
    Call,
    Condition,
    Expression,
    Literal,
    Policy,
    Rule,
    Section,
    Verb,
    configuration_problem,
)

# Rules, conditions and claims multiply: a run ends after this number of comparisons or claims.
MAX_LOOKS: Final = 2_000_000
MAX_CLAIMS: Final = 16_384
# What a refusal shows: a policy may have thousands of rules, and claims thousands of values.
MOST_SEEN: Final = 16
MOST_TOLD: Final = 16


@frozen
class Step:
    """The outcome of one rule.

    Attributes:
        section: of the rule.
        rule: the rule.
        ran: whether its action ran.
        unmet: the first condition that did not match, or None.
        seen: the first values of claims in the unmet condition, by type.
    """

    section: Section
    rule: Rule
    ran: bool
    unmet: Condition | None = None
    seen: Mapping[str, tuple[Value, ...]] = dataclasses.field(default_factory=dict)

    def summary(self) -> str:
        """The step in one line."""
        if self.ran:
            return f"{self.rule.place}: ran: {self.rule.text}"
        assert self.unmet is not None  # noqa: S101  # a rule runs unless a condition does not hold
        got = "; ".join(f"{name} is {_show(values)}" for name, values in self.seen.items())
        return f"{self.rule.place}: want {self.unmet.text}, got {got or 'no claim of the kind'}"


@frozen
class Outcome:
    """The outcome of a policy on the claims.

    Attributes:
        permitted: a ``permit`` ran, and no ``deny``.
        denied_by: the first ``deny`` that ran, or None.
        issued: the token's claims.
        properties: what the policy requires of the service.
        steps: every rule, in order.
    """

    permitted: bool
    denied_by: Rule | None
    issued: dict[str, Value | list[Value]]
    properties: dict[str, Value | list[Value]]
    steps: tuple[Step, ...]

    def require(self) -> None:
        """Raise unless the policy permits.

        Raises:
            PolicyError: code ``policy_evaluation``; names each rule that did not run, and the claim.
        """
        if self.permitted:
            return
        if self.denied_by is not None:
            why = f"rule {self.denied_by.place}: {self.denied_by.text}"
        else:
            permits = [
                step
                for step in self.steps
                if step.section is Section.AUTHORIZATION and step.rule.action.verb is Verb.PERMIT
            ]
            steps = [step.summary() for step in permits[:MOST_TOLD]]
            if len(permits) > MOST_TOLD:
                steps.append(f"and {len(permits) - MOST_TOLD} more")
            why = "no rule permits: " + ("; ".join(steps) or "there is none in authorizationrules")
        raise PolicyError(
            "Policy Evaluation Error has occurred: Policy Engine Exception: A Deny claim was issued, "
            f"authorization failed. {why}",
            hint="kluis policy eval POLICY --claims CLAIMS shows every rule",
            code="policy_evaluation",
        )


def evaluate(policy: Policy, claims: Sequence[Claim]) -> Outcome:
    """Run a policy.

    Args:
        policy: checked.
        claims: incoming.

    Raises:
        PolicyError: code ``policy_evaluation``; a function or an action failed on these claims.
    """
    if len(claims) > MAX_CLAIMS:
        raise PolicyError(
            f"policy: want at most {MAX_CLAIMS} claims, got {len(claims)}", code="policy_evaluation"
        )
    return _Run(policy, claims).outcome()


class _Run:
    def __init__(self, policy: Policy, claims: Sequence[Claim]) -> None:
        self.policy = policy
        self.claims = claims
        self.incoming = ClaimSet()
        self.issued = ClaimSet()
        self.properties = ClaimSet()
        self.permitted = False
        self.denied_by: Rule | None = None
        self.steps: list[Step] = []
        self.looks = 0
        self.work = Work()

    def outcome(self) -> Outcome:
        for section in Section:
            if section is Section.AUTHORIZATION:
                for claim in self.claims:
                    self.incoming.add(claim)
            for rule in self.policy.rules(section):
                self._run(section, rule)
            if section is Section.AUTHORIZATION and (self.denied_by or not self.permitted):
                break
        return Outcome(
            permitted=self.permitted and self.denied_by is None,
            denied_by=self.denied_by,
            issued=self.issued.as_token(),
            properties=self.properties.as_token(),
            steps=tuple(self.steps),
        )

    def _run(self, section: Section, rule: Rule) -> None:
        try:
            self.steps.append(self._step(section, rule))
        except PolicyError as error:
            raise PolicyError(
                f"Policy Evaluation Error has occurred: rule {rule.place}: {rule.text}: {error.message}",
                code="policy_evaluation",
            ) from None

    def _step(self, section: Section, rule: Rule) -> Step:
        bound: dict[str, list[Claim]] = {}
        for condition in rule.conditions:
            matching = self._matching(condition, bound)
            if bool(matching) is condition.negated:
                return Step(section, rule, False, condition, self._values_seen(condition))
            if condition.identifier is not None:
                bound[condition.identifier] = matching
        self._act(section, rule, bound)
        return Step(section, rule, True)

    def _matching(self, condition: Condition, bound: dict[str, list[Claim]]) -> list[Claim]:
        # Nearly every condition names a type, and few claims have it.
        named = condition.named
        looked = list(self.incoming if named is None else self.incoming.of_type(named))
        self._spend(len(looked))
        for test in condition.others:
            if not looked:
                break
            # A test's comparison values are the same for every claim.
            made = self._value(test.expression, bound)
            self._spend(len(looked) * max(1, functions.looks(made.members)))
            looked = [
                claim for claim in looked if _compare(_property(claim, test.property), test.operator, made)
            ]
        return looked

    def _spend(self, looks: int) -> None:
        self.looks += looks
        if self.looks > MAX_LOOKS:
            raise too_much(f"{MAX_LOOKS} comparisons")

    def _act(self, section: Section, rule: Rule, bound: dict[str, list[Claim]]) -> None:
        action = rule.action
        if action.verb is Verb.PERMIT:
            self.permitted = True
        elif action.verb is Verb.DENY:
            self.denied_by = self.denied_by or rule
        else:
            for claim in self._make(action, bound):
                self._put(section, action.verb, claim)
                if len(self.incoming) > MAX_CLAIMS:
                    raise too_much(f"{MAX_CLAIMS} claims")

    def _put(self, section: Section, verb: Verb, claim: Claim) -> None:
        if section is Section.CONFIGURATION:
            self._check_asked(claim)
        self.incoming.add(claim)
        if verb is Verb.ISSUE_PROPERTY:
            self.properties.add(claim)
        elif verb is Verb.ISSUE and section is Section.ISSUANCE:
            if claim.read_only:
                raise PolicyError(f"claim {claim.type!a} is for reading only", code="policy_evaluation")
            self.issued.add(claim)

    def _check_asked(self, claim: Claim) -> None:
        problem = configuration_problem(claim.type, claim.value)
        if problem is None and any(each.value != claim.value for each in self.properties.of_type(claim.type)):
            problem = f"configuration property {claim.type} has one value"
        if problem is not None:
            raise PolicyError(problem, code="policy_evaluation")

    def _make(self, action: Action, bound: dict[str, list[Claim]]) -> list[Claim]:
        if action.copied is not None:
            return bound[action.copied]
        parts = {each.name: self._value(each.expression, bound) for each in action.properties}
        name: str = parts["type"].only(str, "type")
        issuer: str = parts["issuer"].only(str, "issuer") if "issuer" in parts else Issuer.POLICY
        for part in ("type", "issuer"):
            # A later rule may issue the name of a claim, or its issuer.
            if part in parts and parts[part].read_only:
                raise PolicyError(f"{part}: is for reading only", code="policy_evaluation")
        made = [Claim(name, value, issuer, parts["value"].read_only) for value in parts["value"].members]
        if "valueType" in parts:
            want = parts["valueType"].only(str, "valueType")
            for claim in made:
                if claim.value_type != want:
                    raise PolicyError(
                        f"valueType: want {want}, got {claim.value_type}", code="policy_evaluation"
                    )
        return made

    def _value(self, expression: Expression, bound: dict[str, list[Claim]]) -> Values:
        if isinstance(expression, Literal):
            return Values((expression.value,))
        if isinstance(expression, Call):
            arguments = [self._value(argument, bound) for argument in expression.arguments]
            return functions.call(expression.function, arguments, self.work)
        claims = bound[expression.identifier]
        self._spend(len(claims))
        members = functions.unique([_property(claim, expression.property) for claim in claims])
        return Values(members, expression.property == "value" and any(claim.read_only for claim in claims))

    def _values_seen(self, condition: Condition) -> dict[str, tuple[Value, ...]]:
        names = [
            test.expression.value
            for test in condition.tests
            if test.property == "type" and isinstance(test.expression, Literal)
        ]
        return {
            str(name): tuple(claim.value for claim in self.incoming.of_type(name)[: MOST_SEEN + 1])
            for name in names
        }


def _property(claim: Claim, name: str) -> Value:
    if name == "valueType":
        return claim.value_type
    value: Value = getattr(claim, name)
    return str(value) if isinstance(value, Issuer) else value


def _compare(left: Value, operator: str, right: Values) -> bool:
    """Whether any member matches; values of two types are never equal, and only integers are ordered."""
    if operator == "!=":
        return not _compare(left, "==", right)
    if operator == "==":
        return any(type(left) is type(member) and left == member for member in right.members)
    if type(left) is not int:
        return False
    return any(type(member) is int and _ORDERS[operator](left, member) for member in right.members)


_ORDERS = {"<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__}


def _show(values: tuple[Value, ...]) -> str:
    texts = [shown_value(value) for value in values[:MOST_SEEN]]
    return " or ".join([*texts, "others"] if len(values) > MOST_SEEN else texts) or "absent"
