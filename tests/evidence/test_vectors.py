"""Real quotes, real collateral, and negatives made of them by one change: all end as recorded."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import FormatError, FreshnessError, KluisError
from kluis.evidence import Claims, Collateral, ProtectionLevel, SgxClaims, TrustAnchors, verify
from kluis.evidence.intel import collateral as holding
from kluis.formats.sgx import collateral as bundle
from kluis.hashes import sha256

ROOT = Path(__file__).resolve().parents[2]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))
FOUND = sorted((VECTORS / "sgx").glob("*/meta.json"))
SHIPPED = TrustAnchors.shipped()

pytestmark = pytest.mark.skipif(not FOUND, reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS")

# What the records leave open: which of several failures is told.
CODES = {
    "derived-sgx-pck-crl-of-other-ca": "crl_issuer",
    "derived-sgx-qeidentity-of-other-tee": "qe_identity_not_yet_valid",
    "derived-sgx-qeidentity-tampered": "qe_identity_sig",
    "derived-sgx-qve-identity-as-qe": "qe_identity_mismatch",
    "derived-sgx-root-crl-as-pck-crl": "crl_issuer",
    "derived-sgx-sig-zero": "sig_quote",
    "derived-sgx-tampered-measurement": "sig_quote",
    "derived-sgx-tampered-qe-auth-data": "ak_binding",
    "derived-sgx-tampered-qe-report": "sig_qe_report",
    "derived-sgx-tampered-report-data": "sig_quote",
    "derived-sgx-tcbinfo-other-fmspc": "tcb_info_not_yet_valid",
    "derived-sgx-tcbinfo-reserialised": "tcb_info_sig",
    "derived-sgx-tcbinfo-tampered-status": "tcb_info_sig",
    "derived-sgx-truncated": "truncated",
    "neg-collateral-from-future-libsignal-9aab09b4": "tcb_info_not_yet_valid",
    "neg-expired-collateral-libsignal-3f0db0ac": "tcb_info_expired",
    "neg-expired-collateral-libsignal-9aab09b4": "tcb_info_expired",
}


class Vector:
    """One recorded piece of evidence."""

    def __init__(self, path: Path) -> None:
        self.meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.folder = path.parent
        self.now = datetime.fromisoformat(self.meta["verify_time"])
        self.expected = self.meta["expected"]

    def part(self, role: str) -> bytes:
        """The bytes of a part, which must be the recorded ones."""
        recorded = self.meta["files"][role]
        data = (self.folder / recorded["file"]).read_bytes()
        assert sha256(data).hex() == recorded["sha256"]
        return data

    def collateral(self) -> Collateral:
        """The collateral, as Intel's service gave it."""
        info, info_signature = bundle.split_signed(self.part("tcb_info"), "tcbInfo")
        identity, identity_signature = bundle.split_signed(self.part("qe_identity"), "enclaveIdentity")
        parts = ("pck_crl_issuer_chain", "root_ca_crl", "pck_crl")
        chains = ("tcb_info_issuer_chain", "qe_identity_issuer_chain")
        return Collateral(
            **{name: self.part(name) for name in (*parts, *chains)},
            tcb_info=info,
            tcb_info_signature=info_signature,
            qe_identity=identity,
            qe_identity_signature=identity_signature,
        )

    def verify(self) -> Claims:
        """Verify it under Intel's root, at the recorded time."""
        return verify(self.part("quote"), anchors=SHIPPED, collateral=self.collateral(), now=self.now).value


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.parent.name)
def test_vector(path: Path) -> None:
    """Genuine evidence verifies to its recorded claims; everything else is refused for its reason."""
    vector = Vector(path)
    if vector.expected["outcome"] == "invalid":
        with pytest.raises(KluisError) as caught:
            vector.verify()
        assert caught.value.code == CODES.get(path.parent.name, caught.value.code)
        return
    assert vector.expected["outcome"] == "valid"
    claims = vector.verify()
    known, expected = vector.meta["known"], vector.expected
    assert claims.tcb.status == expected["tcb_status"]
    assert list(claims.tcb.advisories) == expected["advisory_ids"]
    assert claims.tcb.date == datetime.fromisoformat(expected["tcb_date"])
    vendor = claims.vendor
    assert isinstance(vendor, SgxClaims)
    detail = {"platform": vendor.platform, "qe": vendor.quoting_enclave}
    assert detail == expected["status_detail"]
    assert claims.tcb.evaluation == min(expected["tcb_evaluation_data_number"].values())
    assert claims.debug is expected["debug"] is known["debug"]
    level = ProtectionLevel.NONE if claims.debug else ProtectionLevel.HARDWARE_SGX
    assert (claims.level, claims.anchor) == (level, "Intel SGX Root CA")
    assert claims.measurement.value.hex() == known["mrenclave"]
    assert claims.signer is not None
    assert claims.signer.value.hex() == known["mrsigner"]
    assert (claims.product_id, claims.svn) == (known["isvprodid"], known["isvsvn"])
    assert claims.report_data.hex() == known["report_data"]
    assert vendor.attributes.to_bytes(16, "little").hex() == known["attributes"]
    assert claims.platform.id.hex() == known["ppid"]
    assert claims.platform.product.lower() == known["fmspc"]
    assert list(vendor.components) == known["pck_tcb_components"]
    assert vendor.pcesvn == known["pck_pcesvn"]


def test_every_negative_has_its_code() -> None:
    """The codes above are of vectors that exist."""
    assert set(CODES) <= {path.parent.name for path in FOUND}


def test_genuine_evidence_of_the_wrong_anchor() -> None:
    """Genuine evidence is refused by who believes another root alone."""
    from tests.evidence.forge import Forge

    vector = Vector(VECTORS / "sgx/libsignal-3f0db0ac-202207-tcbv2-UpToDate/meta.json")
    with pytest.raises(KluisError) as caught:
        verify(vector.part("quote"), anchors=Forge().anchors, collateral=vector.collateral(), now=vector.now)
    assert caught.value.code == "root_untrusted"


def test_intels_own_root_file_is_hardware() -> None:
    """Naming the file of Intel's root is naming the shipped anchor, in either of its encodings."""
    found = {vector.part("tcb_info_issuer_chain") for vector in map(Vector, FOUND)}
    roots = {chain[chain.rindex(b"-----BEGIN") :] for chain in found}
    assert {anchor.name for root in roots for anchor in TrustAnchors.from_pem(root)} == {"Intel SGX Root CA"}


def test_non_zero_bytes_after_a_quote() -> None:
    """A buffer that goes on after the quote with anything but zeros is refused."""
    vector = Vector(VECTORS / "sgx/libsignal-3f0db0ac-202207-tcbv2-UpToDate/meta.json")
    held = holding.hold(vector.collateral(), SHIPPED)
    quote = vector.part("quote")
    padded = verify(quote + bytes(67), anchors=SHIPPED, collateral=held, now=vector.now)
    assert padded.value == vector.verify()
    with pytest.raises(FormatError) as caught:
        verify(quote + b"\0\1", anchors=SHIPPED, collateral=held, now=vector.now)
    assert str(caught.value) == "SGX quote v3.padding at 0x127f: must be zero, found 0x01"


def test_genuine_collateral_of_another_day() -> None:
    """Genuine evidence with genuine collateral is refused outside the collateral's days."""
    vector = Vector(VECTORS / "sgx/libsignal-3f0db0ac-202207-tcbv2-UpToDate/meta.json")
    vector.now = datetime.fromisoformat("2026-01-01T00:00:00Z")
    with pytest.raises(FreshnessError) as caught:
        vector.verify()
    assert caught.value.code == "tcb_info_expired"
