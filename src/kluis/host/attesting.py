"""``attest``: request fresh evidence from the enclave and judge it under the caller's policy."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from kluis import appraisal, evidence
from kluis.appraisal import AttestationResult, Policy
from kluis.appraisal.policy.toml_reader import MAX_SIZE
from kluis.enclave.attestation import Evidence
from kluis.evidence import Collateral, TrustAnchors
from kluis.tee import backends
from kluis.tee.backend import Backend

NONCE_BYTES = 32


def judge(
    made: Evidence,
    policy: Policy,
    *,
    nonce: bytes,
    root: bytes | None,
    collateral: bytes | None,
    platform: Backend | None = None,
) -> AttestationResult:
    """Verify evidence and appraise it, or raise the error of the first failed rule.

    Args:
        made: the evidence.
        policy: the requirements.
        nonce: that this caller generated for it.
        root: PEM of the root to trust; None trusts the platform, which only proves that its operator runs it.
        collateral: JSON in the format of ``dcap-qvl``; None uses the platform's.
        platform: that launched it; None: this machine's.

    Raises:
        AuthenticityError, FreshnessError, FormatError: it is not authentic.
        PolicyError: authentic, but rejected by the policy; names each claim.
    """
    if root is None or collateral is None:
        platform = platform or backends.default()
        root = platform.root_pem() if root is None else root
        collateral = platform.collateral() if collateral is None else collateral
    now = datetime.now(UTC)
    verified = evidence.verify(
        made.quote,
        anchors=TrustAnchors.from_pem(root or b""),
        collateral=Collateral.from_json(collateral or b""),
        now=now,
    )
    result = appraisal.appraise(
        verified,
        policy,
        nonce=nonce,
        runtime_data=made.runtime_data,
        launch_configuration=made.launch_configuration,
        now=now,
    )
    result.require()
    return result


def read_policy(policy: Policy | Path | str) -> Policy:
    """Take a policy, or read it from a TOML file."""
    if isinstance(policy, Policy):
        return policy
    with Path(policy).open("rb") as file:
        return appraisal.loads(file.read(MAX_SIZE + 1))  # which refuses one that is longer


def fresh_nonce() -> bytes:
    """A new nonce: 32 bytes."""
    return os.urandom(NONCE_BYTES)
