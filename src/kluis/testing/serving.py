"""Clients and owners of a rehearsal: each judges its real evidence, whose level is ``none``."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta

import httpx

from kluis.appraisal import ANY, BySigner, Policy, Purpose, RuntimeBinding
from kluis.enclave.attested_tls.client import AttestedTransport
from kluis.enclave.attested_tls.judge import Judge
from kluis.evidence import Collateral, ProtectionLevel, TcbStatus, TrustAnchors
from kluis.host.proxy import EnclaveProxy
from kluis.host.release import Recipient, verify_offer
from kluis.testing.rehearsal import RehearsalPlatform

SECONDS = 120.0
"""Timeout of a request, which only ends hangs."""


def recipient_of(enclave: EnclaveProxy, platform: RehearsalPlatform) -> Recipient:
    """The key that the ecall ``offer`` of a rehearsal offers, once its evidence has been verified."""
    now = datetime.now(UTC)  # noqa: TID251 - an owner has a clock
    return verify_offer(
        enclave.offer,
        rehearsal_policy(_identity(enclave), Purpose.RELEASE_KEY),
        root=platform.authority.root_pem(),
        collateral=json.dumps(platform.authority.collateral(now)).encode(),
    )


def client_of(enclave: EnclaveProxy, platform: RehearsalPlatform, listener: socket.socket) -> httpx.Client:
    """A client whose every connection must reach a rehearsal of this platform with this image's signer."""
    policy = rehearsal_policy(_identity(enclave))
    return httpx.Client(
        transport=AttestedTransport(judge_of(platform, policy)),
        base_url=f"https://127.0.0.1:{listener.getsockname()[1]}",
        timeout=SECONDS,
    )


def _identity(enclave: EnclaveProxy) -> BySigner:
    document = enclave.interface.document
    return BySigner(
        signers=frozenset({bytes(32)}), product_id=document["product_id"], min_svn=document["svn"]
    )


def rehearsal_policy(identity: BySigner, purpose: Purpose = Purpose.CHANNEL) -> Policy:
    """A policy that accepts a rehearsal, which protects nothing, and nothing else."""
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


def judge_of(platform: RehearsalPlatform, policy: Policy) -> Judge:
    """A judge that trusts this platform's root, and no other."""
    root = platform.authority.root_pem()

    def standing() -> tuple[TrustAnchors, Collateral, datetime]:
        now = datetime.now(UTC)  # noqa: TID251 - a client has a clock
        collateral = Collateral.from_json(json.dumps(platform.authority.collateral(now)).encode())
        return TrustAnchors.from_pem(root), collateral, now

    return Judge(policy, standing)
