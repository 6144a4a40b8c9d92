"""What clients of the tests' services want."""

from __future__ import annotations

from kluis.appraisal import BySigner, Policy
from kluis.enclave.attested_tls.judge import Judge
from kluis.formats.kluis.runtime_data import Purpose
from kluis.testing import serving
from kluis.testing.rehearsal import RehearsalPlatform

BY_SIGNER = BySigner(signers=frozenset({bytes(32)}), product_id=5, min_svn=1)


def rehearsed(identity: BySigner = BY_SIGNER, purpose: Purpose = Purpose.CHANNEL) -> Policy:
    """A policy for a rehearsal, which protects nothing, and states that."""
    return serving.rehearsal_policy(identity, purpose)


def judge_of(platform: RehearsalPlatform, policy: Policy | None = None) -> Judge:
    """A judge that trusts a platform of the tests."""
    return serving.judge_of(platform, policy or rehearsed())
