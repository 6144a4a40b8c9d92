"""Is it what we want? Verified claims and a policy in, an attestation result out."""

from kluis.appraisal.document import dumps, loads
from kluis.appraisal.policy import ByImage, BySigner, Policy, ReportDataBinding, RuntimeBinding, strict
from kluis.appraisal.result import AttestationResult, Rule, Verdict
from kluis.appraisal.rules import appraise

__all__ = [
    "AttestationResult",
    "ByImage",
    "BySigner",
    "Policy",
    "ReportDataBinding",
    "Rule",
    "RuntimeBinding",
    "Verdict",
    "appraise",
    "dumps",
    "loads",
    "strict",
]
