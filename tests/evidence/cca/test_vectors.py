"""Recorded CCA tokens, and negatives made of them by one change: all end as recorded."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import AuthenticityError, UnavailableError
from kluis.evidence import (
    CcaClaims,
    CcaEndorsements,
    Claims,
    ProtectionLevel,
    TrustAnchors,
    Verifier,
    aws_lc,
    verify,
)
from kluis.formats.cca.token import Token
from kluis.formats.ietf import jose
from kluis.hashes import sha256

ROOT = Path(__file__).resolve().parents[3]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))
FOUND = sorted((VECTORS / "cca").glob("*/meta.json"))
NOW = datetime(2026, 6, 1, tzinfo=UTC)

pytestmark = pytest.mark.skipif(not FOUND, reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS")


class Vector:
    """One recorded token."""

    def __init__(self, path: Path) -> None:
        self.meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.folder = path.parent
        self.outcome = self.meta["expected"]["outcome"]

    def part(self, role: str) -> bytes:
        """The bytes of a part, which must be the recorded ones."""
        recorded = self.meta["files"][role]
        data = (self.folder / recorded["file"]).read_bytes()
        assert sha256(data).hex() == recorded["sha256"]
        return data

    def endorsements(self) -> CcaEndorsements | None:
        """The platform's key, where it is recorded."""
        return CcaEndorsements(cpak=self.part("cpak")) if "cpak" in self.meta["files"] else None

    def anchors(self) -> TrustAnchors:
        """That key, trusted in addition to the shipped ones."""
        given = self.endorsements()
        if given is None:
            return TrustAnchors.shipped()
        der = CcaEndorsements(cpak=jose.parse_jwk(given.cpak, "CPAK").spki)
        pem = json.loads(der.to_json())["cpak"].encode()
        return TrustAnchors.shipped() | TrustAnchors.from_pem(pem, ProtectionLevel.HARDWARE_CCA)

    def verify(self) -> Claims:
        """Verify it."""
        given = self.endorsements()
        return verify(self.part("token"), anchors=self.anchors(), collateral=given, now=NOW).value


def each(outcome: str) -> pytest.MarkDecorator:
    """The vectors of this outcome."""
    chosen = [path for path in FOUND if Vector(path).outcome == outcome]
    return pytest.mark.parametrize("path", chosen, ids=lambda path: path.parent.name)


def test_every_outcome_is_known() -> None:
    """No vector is left out."""
    assert {Vector(path).outcome for path in FOUND} == {"valid", "invalid", "realm-only"}


@each("valid")
def test_valid(path: Path) -> None:
    """Tokens of both generations and mixed ones verify to what is recorded."""
    vector = Vector(path)
    claims, known = vector.verify(), vector.meta["known"]
    platform, realm = known["platform"], known["realm"]
    assert (claims.kind, claims.level, claims.debug) == ("CCA token", ProtectionLevel.HARDWARE_CCA, False)
    assert claims.nonce is not None
    assert claims.nonce.hex() == realm["challenge"]
    assert claims.measurement.value.hex() == realm["rim"]
    assert [digest.value.hex() for digest in claims.registers.values()] == realm["rem"]
    own = claims.vendor
    assert isinstance(own, CcaClaims)
    assert own.personalization_value.hex() == realm["rpv"]
    assert (own.hash_algorithm, own.realm_profile) == (realm["hash_algo"], realm["profile"])
    assert own.implementation_id.hex() == platform["impl_id"]
    assert own.instance_id.hex() == claims.platform.id.hex() == platform["instance_id"]
    assert (own.platform_profile, own.state) == (platform["profile"], platform["lifecycle"])
    assert own.config.hex() == platform["config"]
    assert own.components
    assert Token.parse(vector.part("token")).encode() == vector.part("token")


@each("invalid")
def test_invalid(path: Path) -> None:
    """A token with a bad realm signature is refused for it, with or without a known platform."""
    with pytest.raises(AuthenticityError) as caught:
        Vector(path).verify()
    assert caught.value.code == "sig_token"


@each("realm-only")
def test_realm_only(path: Path) -> None:
    """Where the platform's key is not known, it cannot be decided, and nothing is verified."""
    with pytest.raises(UnavailableError) as caught:
        Vector(path).verify()
    assert caught.value.code == "collateral_missing"


@each("valid")
def test_engines_agree(path: Path) -> None:
    """AWS-LC gives the result of OpenSSL."""
    pytest.importorskip("awscrt")
    vector = Vector(path)
    verifier = Verifier(vector.anchors(), engine=aws_lc())
    for _ in range(2):
        found = verifier.verify(vector.part("token"), collateral=vector.endorsements(), now=NOW)
        assert found.value == vector.verify()
