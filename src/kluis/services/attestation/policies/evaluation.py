"""Evaluate a policy on the service's claims, and build the token's claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kluis.frozen import frozen
from kluis.services.attestation.language import Claim, evaluate
from kluis.services.attestation.policies.own_claims import check_issued, incoming
from kluis.services.attestation.policies.policies import HeldPolicy


@frozen
class Evaluated:
    """The outcome of a policy that permits.

    Attributes:
        issued: the policy's own claims.
        properties: what it requires of the service.
    """

    issued: Mapping[str, Any]
    properties: Mapping[str, Any]


def evaluate_policy(
    policy: HeldPolicy,
    claims: Mapping[str, Any],
    token_claims: Mapping[str, Any] | None = None,
    *,
    aliases: Mapping[str, Any] = {},
    custom: Sequence[Claim] = (),
    read_only: frozenset[str] = frozenset(),
) -> Evaluated:
    """Evaluate a policy.

    Args:
        policy: to evaluate.
        claims: of the evidence, by name.
        token_claims: always in the token, whatever the policy issues; None: all of ``claims``.
        aliases: the same, under other names.
        custom: the client's own claims.
        read_only: names of claims that a policy can read but not issue.

    Raises:
        PolicyError: code ``policy_evaluation``: it denies, does not permit, fails, or issues a reserved
            claim; names the rule and the claim.
    """
    stated = claims if token_claims is None else token_claims
    inputs = [*incoming(claims, policy.reads, read_only), *custom]
    if aliases:
        inputs += incoming(aliases, policy.reads, read_only)
    outcome = evaluate(policy.policy, inputs)
    outcome.require()
    check_issued(outcome.issued, {**aliases, **claims}, stated)
    issued = {name: value for name, value in outcome.issued.items() if name not in stated}
    return Evaluated(issued, outcome.properties)
