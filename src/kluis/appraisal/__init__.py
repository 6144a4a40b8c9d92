"""Is it what we want? Verified claims and a policy in, an attestation result out."""

from kluis.appraisal.document import loads
from kluis.appraisal.policy import (
    ByImage,
    BySigner,
    ByTable,
    Policy,
    ReportDataBinding,
    RuntimeBinding,
    Session,
    strict,
)
from kluis.appraisal.result import AttestationResult, Rule, Verdict
from kluis.appraisal.rules import appraise
from kluis.appraisal.trust import Aspect, Tier
from kluis.appraisal.wants import ANY
from kluis.appraisal.writing import dumps

__all__ = [
    "ANY",
    "Aspect",
    "AttestationResult",
    "ByImage",
    "BySigner",
    "ByTable",
    "Policy",
    "ReportDataBinding",
    "Rule",
    "RuntimeBinding",
    "Session",
    "Tier",
    "Verdict",
    "appraise",
    "dumps",
    "loads",
    "strict",
]
