"""Real quotes, real collateral, and negatives made of them by one change: all end as recorded."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import FormatError, FreshnessError, KluisError
from kluis.evidence import Claims, Collateral, ProtectionLevel, SgxClaims, TdxClaims, TrustAnchors, verify
from kluis.evidence.intel import collateral as holding
from kluis.evidence.intel.claims import IntelClaims
from kluis.formats.sgx import collateral as bundle
from kluis.hashes import sha256

ROOT = Path(__file__).resolve().parents[2]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))
FOUND = sorted([*(VECTORS / "sgx").glob("*/meta.json"), *(VECTORS / "tdx").glob("*/meta.json")])
SHIPPED = TrustAnchors.shipped()

pytestmark = pytest.mark.skipif(not FOUND, reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS")

# The recorded fault of a negative, and the allowed codes.
CODES: dict[str | None, set[str]] = {
    None: {"tcb_not_supported"},
    "1 bit flipped in MRENCLAVE/MRTD": {"sig_quote"},
    "1 bit flipped in QE authentication data": {"ak_binding"},
    "1 bit flipped in QE report": {"sig_qe_report"},
    "1 bit flipped in report_data": {"sig_quote"},
    "CRL confusion": {"crl_issuer"},
    "CRL of the Processor CA supplied": {"crl_issuer"},
    "FMSPC mismatch": {"tcb_info_mismatch", "tcb_info_not_yet_valid", "tcb_info_expired"},
    "TCB info JSON re-serialised with spaces": {"tcb_info_sig"},
    "a tcbStatus changed to UpToDate": {"tcb_info_sig"},
    "collateral used after nextUpdate": {"tcb_info_expired", "qe_identity_expired", "crl_expired"},
    "isvprodid changed": {"qe_identity_sig"},
    "last 200 bytes removed": {"truncated"},
    "signature replaced with zeros": {"sig_quote"},
    "splice of two genuine quotes": {"sig_quote"},
    "tee_type flipped to SGX": {"bad_encoding"},
    "v5 body descriptor inconsistent": {"bad_length"},
    "verify_time before issueDate": {
        "tcb_info_not_yet_valid",
        "qe_identity_not_yet_valid",
        "crl_not_yet_valid",
    },
    "wrong enclave identity id": {
        "qe_identity_mismatch",
        "qe_identity_not_yet_valid",
        "qe_identity_expired",
    },
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


@pytest.mark.parametrize("path", FOUND, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_vector(path: Path) -> None:
    """Genuine evidence verifies to its recorded claims; everything else is refused for its reason."""
    vector = Vector(path)
    if vector.expected["outcome"] == "invalid":
        with pytest.raises(KluisError) as caught:
            vector.verify()
        assert caught.value.code in CODES[vector.meta.get("negative")]
        return
    assert vector.expected["outcome"] == "valid"
    claims = vector.verify()
    assert claims.tee == vector.meta["tee"]
    assert vector.meta["format"].startswith(claims.kind)
    _check_tcb(claims, vector.expected)
    _check_platform(claims, vector.meta["known"])
    if isinstance(claims.vendor, SgxClaims):
        _check_enclave(claims, claims.vendor, vector.meta["known"])
    else:
        assert isinstance(claims.vendor, TdxClaims)
        _check_domain(claims, claims.vendor, vector.meta["known"])


def _check_tcb(claims: Claims, expected: dict[str, Any]) -> None:
    vendor = claims.vendor
    assert isinstance(vendor, IntelClaims)
    assert claims.tcb.status == expected["tcb_status"]
    assert list(claims.tcb.advisories) == expected["advisory_ids"]
    assert claims.tcb.date == datetime.fromisoformat(expected["tcb_date"])
    detail = {"platform": vendor.platform, "qe": vendor.quoting_enclave}
    if isinstance(vendor, TdxClaims) and vendor.module:
        detail["module"] = vendor.module
    assert detail == expected["status_detail"]
    numbers = {"tcb_info": vendor.tcb_info_evaluation, "qe_identity": vendor.qe_identity_evaluation}
    assert numbers == expected["tcb_evaluation_data_number"]
    assert claims.tcb.evaluation == min(numbers.values())
    if "launch_tcb_status" in expected:
        assert isinstance(vendor, TdxClaims)
        assert vendor.launch.status == expected["launch_tcb_status"]
        assert vendor.current is not None
        assert vendor.current.status == expected["current_tcb_status"]
    assert claims.debug is expected["debug"]


def _check_platform(claims: Claims, known: dict[str, Any]) -> None:
    vendor = claims.vendor
    assert isinstance(vendor, IntelClaims)
    level = ProtectionLevel.NONE if claims.debug else ProtectionLevel(f"hardware-{claims.tee}")
    assert (claims.level, claims.anchor, claims.debug) == (level, "Intel SGX Root CA", known["debug"])
    assert claims.report_data.hex() == known["report_data"]
    assert claims.platform.id == vendor.ppid == bytes.fromhex(known["ppid"])
    assert claims.platform.product == known["fmspc"].upper() == vendor.fmspc.hex().upper()
    assert vendor.pceid.hex() == known["pceid"]
    assert list(vendor.components) == known["pck_tcb_components"]
    assert (vendor.pcesvn, vendor.qe_svn) == (known["pck_pcesvn"], known["qe_isvsvn"])
    assert hex(vendor.pck_serial) == known["pck_serial"]
    assert f"{known['pck_ca']} ca" in vendor.pck_ca.lower()
    assert claims.valid_until <= datetime.fromisoformat(known["pck_not_after"])


def _check_enclave(claims: Claims, vendor: SgxClaims, known: dict[str, Any]) -> None:
    assert claims.measurement.value.hex() == known["mrenclave"]
    assert claims.signer is not None
    assert claims.signer.value.hex() == known["mrsigner"]
    assert (claims.product_id, claims.svn) == (known["isvprodid"], known["isvsvn"])
    assert vendor.attributes.to_bytes(16, "little").hex() == known["attributes"]


def _check_domain(claims: Claims, vendor: TdxClaims, known: dict[str, Any]) -> None:
    assert claims.measurement.value.hex() == known["mrtd"]
    assert claims.signer is None
    for name in ("rtmr0", "rtmr1", "rtmr2", "rtmr3"):
        assert claims.registers[name].value.hex() == known[name]
    for name in ("tee_tcb_svn", "mrseam", "mrsignerseam", "mrconfigid", "mrowner", "mrownerconfig"):
        assert getattr(vendor, name).hex() == known[name]
    for name, value in (
        ("seamattributes", vendor.seam_attributes),
        ("tdattributes", vendor.td_attributes),
        ("xfam", vendor.xfam),
    ):
        assert value.to_bytes(8, "little").hex() == known[name]
    assert vendor.sept_ve_disable is known["sept_ve_disable"]
    later = (vendor.tee_tcb_svn_2, vendor.mrservicetd)
    recorded = [known.get(name) for name in ("tee_tcb_svn2", "mrservicetd")]
    assert [value.hex() if value is not None else None for value in later] == recorded


def test_every_kind_of_negative_is_there() -> None:
    """The codes above are of negatives that exist."""
    metas = [Vector(path).meta for path in FOUND]
    assert set(CODES) == {m.get("negative") for m in metas if m["expected"]["outcome"] == "invalid"}


def _good() -> Vector:
    """Genuine evidence of an SGX platform that is up to date."""
    return next(
        vector
        for vector in map(Vector, FOUND)
        if vector.meta["tee"] == "sgx" and vector.expected.get("tcb_status") == "UpToDate"
    )


def test_genuine_evidence_of_the_wrong_anchor() -> None:
    """Genuine evidence is refused by a caller that only trusts another root."""
    from tests.evidence.forge import Forge

    vector = _good()
    with pytest.raises(KluisError) as caught:
        verify(vector.part("quote"), anchors=Forge().anchors, collateral=vector.collateral(), now=vector.now)
    assert caught.value.code == "root_untrusted"


def test_intels_own_root_file_is_hardware() -> None:
    """Naming the file of Intel's root is naming the shipped anchor, in either of its encodings."""
    found = {vector.part("tcb_info_issuer_chain") for vector in map(Vector, FOUND)}
    roots = {chain[chain.rindex(b"-----BEGIN") :] for chain in found}
    for root in roots:
        (anchor,) = TrustAnchors.from_pem(root)
        assert (anchor.name, anchor.level) == ("Intel SGX Root CA", ProtectionLevel.HARDWARE_SGX)


def test_non_zero_bytes_after_a_quote() -> None:
    """A buffer that goes on after the quote with anything but zeros is refused."""
    vector = _good()
    held = holding.hold(vector.collateral(), SHIPPED)
    quote = vector.part("quote")
    padded = verify(quote + bytes(67), anchors=SHIPPED, collateral=held, now=vector.now)
    assert padded.value == vector.verify()
    with pytest.raises(FormatError) as caught:
        verify(quote + b"\0\1", anchors=SHIPPED, collateral=held, now=vector.now)
    assert str(caught.value) == f"DCAP quote v3.padding at {len(quote) + 1:#x}: must be zero, found 0x01"


def test_genuine_collateral_of_another_day() -> None:
    """Genuine evidence with genuine collateral is refused outside the collateral's days."""
    vector = _good()
    vector.now = datetime.fromisoformat("2026-01-01T00:00:00Z")
    with pytest.raises(FreshnessError) as caught:
        vector.verify()
    assert caught.value.code == "tcb_info_expired"
