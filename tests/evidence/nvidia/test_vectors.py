"""Real reports of GPUs, and negatives made of them: all end as recorded."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import KluisError
from kluis.evidence import NvidiaClaims, ProtectionLevel, TrustAnchors, Verifier, aws_lc
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.nvidia.report import Report
from kluis.hashes import sha256

ROOT = Path(__file__).resolve().parents[3]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))
FOUND = sorted((VECTORS / "nvidia").glob("*/meta.json"))
NOW = datetime(2026, 6, 1, tzinfo=UTC)
# Offline, a certificate on hold and an expired reference document are not seen.
VALID = {"valid", "valid-offline", "valid-offline-revoked-online"}

pytestmark = pytest.mark.skipif(not FOUND, reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS")


class Vector:
    """One recorded report and its chain."""

    def __init__(self, path: Path) -> None:
        self.meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.folder = path.parent

    def part(self, role: str) -> bytes:
        """The bytes of a part, which must be the recorded ones."""
        recorded = self.meta["files"][role]
        data = (self.folder / recorded["file"]).read_bytes()
        assert sha256(data).hex() == recorded["sha256"]
        return data

    def evidence(self) -> bytes:
        """As we take it: both in one collection."""
        return Collection({name: Part(OCTETS, self.part(name)) for name in ("report", "cert_chain")}).encode()


def _verifiers() -> list[Verifier]:
    engines: list[dict[str, Any]] = [{}]
    with contextlib.suppress(KluisError):
        engines.append({"engine": aws_lc()})
    return [Verifier(TrustAnchors.shipped(), **options) for options in engines]


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.parent.name)
def test_outcome(path: Path) -> None:
    """Every recorded report verifies, or is refused, as recorded; by every engine, warm or cold."""
    vector = Vector(path)
    data = vector.evidence()
    for verifier in _verifiers() * 2:
        if vector.meta["expected"]["outcome"] not in VALID:
            with pytest.raises(KluisError) as caught:
                verifier.verify(data, collateral=None, now=NOW)
            assert caught.value.code == "sig_report"
            continue
        claims = verifier.verify(data, collateral=None, now=NOW).value
        known = vector.meta["known"]
        assert claims.nonce == bytes.fromhex(known["nonce"])
        assert claims.level is ProtectionLevel.HARDWARE_GPU
        assert claims.anchor == "NVIDIA Device Identity CA"
        assert known["chain"][0].startswith(f"CN={claims.platform.product} ")
        assert isinstance(claims.vendor, NvidiaClaims)
        assert claims.vendor.revocation_checked is False
        assert (
            claims.vendor.trailing_bytes
            == known["len"] - len(Report.parse(vector.part("report")).signed_bytes()) - 96
        )


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.parent.name)
def test_same_bytes(path: Path) -> None:
    """Every real report is written as the same bytes."""
    data = Vector(path).part("report")
    assert Report.parse(data).encode() == data
