"""What clients of the tests' services want."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from kluis.appraisal import ANY, BySigner, Policy, RuntimeBinding
from kluis.enclave.attested_tls.judge import Judge
from kluis.evidence import Collateral, ProtectionLevel, TcbStatus, TrustAnchors
from kluis.formats.kluis.runtime_data import Purpose
from kluis.testing.rehearsal import RehearsalPlatform

BY_SIGNER = BySigner(signers=frozenset({bytes(32)}), product_id=5, min_svn=1)


def rehearsed(identity: BySigner = BY_SIGNER, purpose: Purpose = Purpose.CHANNEL) -> Policy:
    """A policy for a rehearsal, which protects nothing, and states that."""
    return Policy(
        protection=frozenset({ProtectionLevel.NONE}),
        debug=True,
        denylists=False,
        identity=identity,
        tcb_statuses=frozenset({TcbStatus.UP_TO_DATE}),
        advisories=ANY,
        min_evaluation=0,
        min_tcb_date=ANY,
        max_collateral_age=timedelta(days=30),
        max_evidence_age=timedelta(minutes=5),
        binding=RuntimeBinding(
            purpose=purpose,
            nonce=True,
            missing=frozenset({"everything"}),
            counters=frozenset({"unwitnessed"}),
            insecure=frozenset(),
        ),
        emulated_roots=(),
    )


def judge_of(platform: RehearsalPlatform, policy: Policy | None = None) -> Judge:
    """A judge that trusts a platform of the tests."""
    root = platform.authority.root_pem()
    collateral = json.dumps(platform.authority.collateral(datetime.now(UTC))).encode()

    def standing() -> tuple[TrustAnchors, Collateral, datetime]:
        return TrustAnchors.from_pem(root), Collateral.from_json(collateral), datetime.now(UTC)

    return Judge(policy or rehearsed(), standing)
