"""Attestation policies: Azure Attestation's policy language, versions 1.0, 1.1 and 1.2.

:func:`parse` turns text into a checked policy, and :func:`evaluate` turns claims into an outcome. A refusal
names the rule that refused, and the claim.
"""

from kluis.services.attestation.language.claims import Claim, Issuer
from kluis.services.attestation.language.defaults import default_policy
from kluis.services.attestation.language.evaluation import Outcome, evaluate
from kluis.services.attestation.language.parsing import PolicyParsingError, parse
from kluis.services.attestation.language.syntax import Policy

__all__ = [
    "Claim",
    "Issuer",
    "Outcome",
    "Policy",
    "PolicyParsingError",
    "default_policy",
    "evaluate",
    "parse",
]
