"""Release to an offered key: only to fresh evidence of the right purpose, and only that run opens it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kluis.appraisal import BySigner, Policy, Purpose
from kluis.errors import AuthenticityError, FreshnessError, PolicyError, RemoteError, UsageError
from kluis.host.proxy import EnclaveProxy
from kluis.host.release import verify_offer
from kluis.testing.plugin import Launch, enclave, recipient_of
from kluis.testing.rehearsal import RehearsalPlatform
from kluis.testing.serving import rehearsal_policy

__all__ = ["enclave", "recipient_of"]

APP = '''
"""An application that offers its key, another key, or none."""

from kluis.enclave import Enclave, Evidence, open_sealed, quote, receipt_offer
from kluis.enclave import release_key_offer, release_offer

app = Enclave("keeper", product_id=1, svn=1)


@app.ecall
def offer(nonce: bytes) -> Evidence:
    return release_offer(nonce)


@app.ecall
def other(kind: str, nonce: bytes) -> Evidence:
    made = {"quote": lambda: quote(nonce=nonce), "receipt": lambda: receipt_offer(nonce)}
    return made.get(kind, lambda: release_key_offer(nonce))()


@app.ecall
def opened(sealed: bytes, info: bytes) -> bytes:
    return open_sealed(sealed, info=info)
'''
POLICY = rehearsal_policy(
    BySigner(signers=frozenset({bytes(32)}), product_id=1, min_svn=1), Purpose.RELEASE_KEY
)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path / "app.py"


def verified(platform: RehearsalPlatform, offer: Any, policy: Policy = POLICY) -> Any:
    collateral = json.dumps(platform.authority.collateral(datetime.now(UTC))).encode()
    return verify_offer(offer, policy, root=platform.authority.root_pem(), collateral=collateral)


def test_only_that_run_opens_it(enclave: Launch, app: Path, recipient_of: Any) -> None:
    """A secret opens in the run that offered the key, under the same purpose, and nowhere else."""
    one, two = enclave(app), enclave(app)
    recipient = recipient_of(one)
    sealed = recipient.seal(b"secret", info=b"for a test")
    assert b"secret" not in sealed
    assert one.opened(sealed, b"for a test") == b"secret"
    for run, info in ((one, b"for another"), (two, b"for a test")):
        with pytest.raises(RemoteError, match="cannot be opened by this enclave"):
            run.opened(sealed, info)


def test_evidence_from_before(enclave: Launch, app: Path, rehearsal_platform: RehearsalPlatform) -> None:
    """Evidence over another nonce is refused: a host cannot present an offer again."""
    old = enclave(app).offer(bytes(32))
    with pytest.raises(FreshnessError, match="nonce"):
        verified(rehearsal_platform, lambda nonce: old)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("quote", PolicyError, "want release-key, got app"),
        ("receipt", PolicyError, "want release-key, got receipt"),
        ("rsa", AuthenticityError, "offer: want one X25519 key, got 0"),
    ],
)
def test_evidence_of_another_key(
    kind: str,
    error: type[Exception],
    message: str,
    enclave: Launch,
    app: Path,
    rehearsal_platform: RehearsalPlatform,
) -> None:
    """Evidence for another purpose, or with another kind of key, releases nothing."""
    running: EnclaveProxy = enclave(app)
    with pytest.raises(error, match=message):
        verified(rehearsal_platform, lambda nonce: running.other(kind, nonce))


def test_a_policy_for_another_purpose(rehearsal_platform: RehearsalPlatform) -> None:
    """A policy that accepts other evidence is refused before an offer is requested."""

    def never(nonce: bytes) -> Any:
        raise AssertionError

    with pytest.raises(UsageError) as refused:
        verified(rehearsal_platform, never, rehearsal_policy(POLICY.identity))  # type: ignore[arg-type]
    assert refused.value.message == "policy.binding: want purpose release-key with a nonce, got another"
