"""Reports, quotes and the keys they speak for, from a running application."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from kluis import evidence
from kluis.enclave import LocalReport
from kluis.errors import RemoteError
from kluis.evidence import Collateral, ProtectionLevel, TrustAnchors
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData, okp_public, report_data
from kluis.formats.sgx import quote as quotes
from kluis.hashes import sha512
from kluis.host.proxy import EnclaveProxy
from kluis.testing.rehearsal import RehearsalPlatform

Launch = Callable[..., EnclaveProxy]
MAC = "AuthenticityError: report: not made on this platform for this enclave"


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(RemoteError) as raised:
        call()
    return raised.value.message


def test_local(enclave: Launch, subject: Path) -> None:
    """One enclave makes a report for another, which learns who made it and what it said."""
    first, second = enclave(subject), enclave(subject, signer=b"\7" * 32)
    made = first.vouch(second.target(), b"hello", b"nonce")
    peer = second.meet(made, b"nonce")
    assert peer.measurement == first.image_id
    assert (peer.product_id, peer.svn, peer.debug, peer.payload) == (7, 3, True, b"hello")


def test_every_bit_of_a_report(enclave: Launch, subject: Path) -> None:
    """A report with any byte changed is refused."""
    first, second = enclave(subject), enclave(subject)
    made = first.vouch(second.target(), b"", b"")
    for offset in range(432):
        bad = bytearray(made.report)
        bad[offset] ^= 1
        said = refused(lambda bad=bad: second.meet(LocalReport(bytes(bad), made.runtime_data), b""))  # type: ignore[misc]
        assert said == MAC or said.startswith("FormatError: SGX report")


def test_report_for_another(enclave: Launch, subject: Path, tmp_path: Path) -> None:
    """A report made for one enclave proves nothing to another."""
    (tmp_path / "app.py").write_text(subject.read_text() + "\n")
    first, second, third = enclave(subject), enclave(subject), enclave(tmp_path / "app.py")
    made = first.vouch(third.target(), b"", b"")
    assert refused(lambda: second.meet(made, b"")) == MAC


def test_report_of_another_platform(
    enclave: Launch, subject: Path, other_platform: RehearsalPlatform
) -> None:
    """A report made on another platform is refused, though its target is right."""
    here, there = enclave(subject), enclave(subject, on=other_platform)
    assert refused(lambda: here.meet(there.vouch(here.target(), b"", b""), b"")) == MAC


def test_what_a_report_says(enclave: Launch, subject: Path) -> None:
    """Runtime data that the report is not over, and another nonce, are refused."""
    first, second = enclave(subject), enclave(subject)
    made = first.vouch(second.target(), b"one", b"n")
    other = first.vouch(second.target(), b"two", b"n")
    mixed = LocalReport(made.report, other.runtime_data)
    assert refused(lambda: second.meet(mixed, b"n")) == (
        "AuthenticityError: report: is not over this runtime data"
    )
    assert refused(lambda: second.meet(made, b"m")) == "FreshnessError: report nonce: want 6d, got 6e"


def verified(made: object, platform: RehearsalPlatform) -> RuntimeData:
    """Verify evidence as anyone would, and read its runtime data."""
    now = datetime.now(UTC)
    claims = evidence.verify(
        made.quote,  # type: ignore[attr-defined]
        anchors=TrustAnchors.from_pem(platform.authority.root_pem()),
        collateral=Collateral.from_json(json.dumps(platform.authority.collateral(now)).encode()),
        now=now,
    ).value
    assert claims.level is ProtectionLevel.NONE
    assert claims.report_data == report_data(made.runtime_data)  # type: ignore[attr-defined]
    body = quotes.parse(made.quote).body  # type: ignore[attr-defined]
    assert body.configid == sha512(made.launch_configuration)  # type: ignore[attr-defined]
    return RuntimeData.parse(made.runtime_data)  # type: ignore[attr-defined]


def test_purposes(enclave: Launch, subject: Path, rehearsal_platform: RehearsalPlatform) -> None:
    """Each way to ask for a quote has its own purpose, and neither application nor host can choose it."""
    running = enclave(subject)
    said = {
        Purpose.APP: verified(running.prove(b"payload", b"n"), rehearsal_platform),
        Purpose.CLI: verified(running.evidence(b"n", b"payload"), rehearsal_platform),
        Purpose.RELEASE_KEY: verified(running.offer(b"n", "release"), rehearsal_platform),
        Purpose.RECEIPT: verified(running.offer(b"n", "receipt"), rehearsal_platform),
    }
    for purpose, runtime in said.items():
        assert runtime.purpose is purpose
        assert runtime.nonce == b"n"
        assert runtime.image_id == running.image_id
    assert said[Purpose.APP].keys == said[Purpose.CLI].keys == ()
    assert said[Purpose.APP].payload == said[Purpose.CLI].payload == b"payload"


SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def test_secret_to_this_run(enclave: Launch, subject: Path) -> None:
    """A secret sealed to the offered key opens only in this run, with the same info."""
    running, other = enclave(subject), enclave(subject)
    runtime = RuntimeData.parse(running.offer(b"n", "release").runtime_data)
    key = X25519PublicKey.from_public_bytes(okp_public(runtime.keys[0], "X25519"))
    sealed = SUITE.encrypt(b"secret", key, b"agreement")
    assert running.opened(sealed, b"agreement") == b"secret"
    cannot = "AuthenticityError: sealed message: cannot be opened by this enclave"
    assert refused(lambda: running.opened(sealed, b"other")) == cannot
    assert refused(lambda: other.opened(sealed, b"agreement")) == cannot
    for bad in (b"", sealed[:40], bytes([sealed[0] ^ 1]) + sealed[1:], sealed[:-1] + bytes([sealed[-1] ^ 1])):
        assert refused(lambda bad=bad: running.opened(bad, b"agreement")) == cannot  # type: ignore[misc]


def test_receipts(enclave: Launch, subject: Path) -> None:
    """A receipt's signature is of the offered key."""
    running = enclave(subject)
    runtime = RuntimeData.parse(running.offer(b"n", "receipt").runtime_data)
    key = Ed25519PublicKey.from_public_bytes(okp_public(runtime.keys[0], "Ed25519"))
    signature = running.signed(b"receipt")
    key.verify(signature, b"receipt")
    with pytest.raises(InvalidSignature):
        key.verify(signature, b"another")


def test_host_asks_out_of_bounds(enclave: Launch, subject: Path) -> None:
    """A nonce or payload past its bound is refused, and the enclave goes on."""
    running = enclave(subject)
    assert refused(lambda: running.evidence(bytes(65))).startswith("FormatError: runtime data.nonce")
    assert refused(lambda: running.evidence(b"", bytes(200_000))).startswith(
        "FormatError: runtime data.payload"
    )
    assert running.add(1) == 3


def test_evidence_is_what_it_says(enclave: Launch, subject: Path) -> None:
    """The host's view of evidence has three byte strings."""
    made = enclave(subject).evidence(b"n")
    assert all(type(part) is bytes and part for part in msgspec.structs.astuple(made))
