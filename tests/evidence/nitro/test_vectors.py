"""Real Nitro documents, and negatives made of them by one change: all end as recorded."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import FormatError, FreshnessError, KluisError
from kluis.evidence import Claims, NitroClaims, ProtectionLevel, TrustAnchors, Verifier, aws_lc, verify
from kluis.formats import x509
from kluis.formats.nitro.document import Document
from kluis.hashes import sha256

ROOT = Path(__file__).resolve().parents[3]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))
FOUND = sorted((VECTORS / "nitro").glob("*/meta.json"))
# Of the certificate; its key is what :mod:`kluis.evidence.roots` pins.
G1_SHA256 = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"

pytestmark = pytest.mark.skipif(not FOUND, reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS")

# Allowed errors of each recorded negative.
CODES = {
    "alg confusion": {"bad_encoding", "bad_type"},
    "leaf swap": {"cert_expired", "sig_cose"},
    "missing intermediate": {"cert_chain"},
    "self-made root in cabundle": {"root_untrusted"},
    "zero signature": {"sig_cose"},
    "PCR bit": {"sig_cose"},
    "timestamp bit": {"sig_cose"},
    "trailing data": {"trailing_data"},
    "truncated": {"truncated"},
    "expired": {"cert_expired"},
    "tampered certificate": {"truncated"},
    "tampered trust anchor": {"root_untrusted"},
    "wrong trust anchor": {"root_untrusted"},
    "source-made: cose signature": {"sig_cose"},
}


class Vector:
    """One recorded document."""

    def __init__(self, path: Path) -> None:
        self.meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.folder = path.parent
        self.now = datetime.fromisoformat(self.meta["verify_time"])
        self.outcome = self.meta["expected"]["outcome"]

    def part(self, role: str) -> bytes:
        """The bytes of a part, which must be the recorded ones."""
        recorded = self.meta["files"][role]
        data = (self.folder / recorded["file"]).read_bytes()
        assert sha256(data).hex() == recorded["sha256"]
        return data

    def verify(self) -> Claims:
        """Verify it under its own root file, at the recorded time."""
        anchors = TrustAnchors.from_pem(self.part("root"))
        return verify(self.part("document"), anchors=anchors, collateral=None, now=self.now).value


def each(*outcomes: str) -> pytest.MarkDecorator:
    """The vectors of these outcomes."""
    chosen = [path for path in FOUND if Vector(path).outcome in outcomes]
    return pytest.mark.parametrize("path", chosen, ids=lambda path: path.parent.name)


def test_every_outcome_is_known() -> None:
    """No vector is left out."""
    assert {Vector(path).outcome for path in FOUND} == {"valid", "invalid", "invalid-strict"}


@each("valid")
def test_valid(path: Path) -> None:
    """Genuine documents, tagged or not, verify to what is recorded, in debug mode at no level."""
    vector = Vector(path)
    claims, known = vector.verify(), vector.meta.get("known", {})
    debug = vector.meta["expected"].get("debug", False)
    assert claims.debug is debug
    assert claims.level is (ProtectionLevel.NONE if debug else ProtectionLevel.HARDWARE_NITRO)
    assert (claims.kind, claims.anchor) == ("Nitro document", "AWS Nitro Enclaves Root-G1")
    assert isinstance(claims.vendor, NitroClaims)
    assert claims.vendor.instance_measured is True
    assert Document.parse(vector.part("document")).encode() == vector.part("document")
    if not known:
        return
    assert claims.vendor.module_id == known["module_id"]
    assert claims.vendor.timestamp == datetime.fromisoformat(known["timestamp"])
    assert list(claims.registers) == [f"pcr{index}" for index in known["pcr_indices"]]
    nonzero = {name: d.value.hex() for name, d in claims.registers.items() if any(d.value)}
    assert nonzero == {f"pcr{index}": value for index, value in known["pcrs"].items()}
    assert claims.measurement == claims.registers["pcr0"]
    for name in ("public_key", "user_data", "nonce"):
        value = getattr(claims.vendor, name)
        assert (value.hex() if value is not None else None) == known[name]
    assert claims.valid_until == datetime.fromisoformat(known["leaf_not_after"])


@each("invalid", "invalid-strict")
def test_invalid(path: Path) -> None:
    """Everything else is refused for its reason."""
    vector = Vector(path)
    with pytest.raises(KluisError) as caught:
        vector.verify()
    assert caught.value.code in CODES[vector.meta["negative"]]
    if vector.outcome == "invalid-strict":
        assert isinstance(caught.value, FormatError)


@each("valid")
def test_engines_agree(path: Path) -> None:
    """AWS-LC gives the result of OpenSSL."""
    pytest.importorskip("awscrt")
    vector = Vector(path)
    verifier = Verifier(TrustAnchors.shipped(), engine=aws_lc())
    for _ in range(2):
        assert (
            verifier.verify(vector.part("document"), collateral=None, now=vector.now).value == vector.verify()
        )


def test_one_verifier_for_all() -> None:
    """A verifier that has seen every good document refuses every bad one, in any order."""
    verifier = Verifier(TrustAnchors.shipped())
    for _ in range(2):
        for path in FOUND:
            vector = Vector(path)
            try:
                verifier.verify(vector.part("document"), collateral=None, now=vector.now)
            except KluisError:
                assert vector.outcome != "valid"
            else:
                assert vector.outcome == "valid" or "trust anchor" in vector.meta["negative"]


def test_the_shipped_root_is_the_published_one() -> None:
    """The root that Kluis ships is byte for byte the one that AWS publishes the digest of."""
    shipped = (ROOT / "src/kluis/evidence/roots/aws-nitro-g1.pem").read_bytes()
    assert sha256(x509.split_pem(shipped, "root")[0]).hex() == G1_SHA256
    assert TrustAnchors.from_pem(shipped).match(x509.parse_pem(shipped, "root")[0].spki)


def test_genuine_document_of_another_day() -> None:
    """A genuine document is refused three hours later, and before it was made."""
    vector = next(vector for vector in map(Vector, FOUND) if vector.outcome == "valid")
    for when, code in (
        ("2030-01-01T00:00:00Z", "cert_expired"),
        ("2020-01-01T00:00:00Z", "cert_not_yet_valid"),
    ):
        vector.now = datetime.fromisoformat(when)
        with pytest.raises(FreshnessError) as caught:
            vector.verify()
        assert caught.value.code == code
