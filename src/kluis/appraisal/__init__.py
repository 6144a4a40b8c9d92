"""Appraise verified claims under a policy, and return an attestation result."""

from kluis.appraisal.aspects import Aspect, Tier
from kluis.appraisal.policy.model import (
    ByImage,
    ByMachine,
    BySigner,
    ByTable,
    Policy,
    ReportDataBinding,
    RuntimeBinding,
    Session,
    strict,
)
from kluis.appraisal.policy.toml_reader import loads, loads_machine
from kluis.appraisal.policy.toml_writer import dumps, dumps_machine
from kluis.appraisal.policy.wants import ANY
from kluis.appraisal.results.result import AttestationResult, Verdict
from kluis.appraisal.results.rule import Rule
from kluis.appraisal.rules.appraise import appraise
from kluis.formats.kluis.runtime_data import Purpose

__all__ = [
    "ANY",
    "Aspect",
    "AttestationResult",
    "ByImage",
    "ByMachine",
    "BySigner",
    "ByTable",
    "Policy",
    "Purpose",
    "ReportDataBinding",
    "Rule",
    "RuntimeBinding",
    "Session",
    "Tier",
    "Verdict",
    "appraise",
    "dumps",
    "dumps_machine",
    "loads",
    "loads_machine",
    "strict",
]
