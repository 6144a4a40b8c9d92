"""Real evidence of Azure confidential VMs, and negatives made of it by one change: all end as recorded."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from kluis.errors import KluisError, UnavailableError
from kluis.evidence import (
    AzureClaims,
    AzureEndorsements,
    Claims,
    Collateral,
    ProtectionLevel,
    SnpEndorsements,
    TpmClaims,
    TpmEndorsements,
    TrustAnchors,
    verify,
)
from kluis.formats.sgx import collateral as bundle
from tests.evidence.tpm.forge import collection
from tests.vectors import MISSING, Vector, found

FOUND = found("azure")
SHIPPED = TrustAnchors.shipped()
CERTIFIED = [vector for vector in FOUND if "ak_cert" in vector]
# For vectors that are refused before anything with a time is read.
SOME_TIME = datetime(2025, 6, 1, tzinfo=UTC)

pytestmark = pytest.mark.skipif(not FOUND, reason=MISSING)


def evidence(vector: Vector) -> bytes:
    """The attester's evidence: a bare report, or a collection of its parts."""
    roles = {"hcl_report": "hcl_report", "td_quote": "td_quote", "tpm_quote": "tpm_quote_msg"}
    roles |= {"tpm_signature": "tpm_quote_sig", "pcrs": "pcrs"}
    parts = {part: vector.part(role) for part, role in roles.items() if role in vector}
    return parts["hcl_report"] if len(parts) == 1 else collection(parts)


def endorsements(vector: Vector, *, ak: bool = False) -> AzureEndorsements:
    """Its endorsements."""
    snp, tdx, key = None, None, None
    if "endorsement_key" in vector:
        snp = SnpEndorsements(
            vek=vector.part("endorsement_key"), ask=vector.part("ask"), ark=vector.part("ark")
        )
    if "tcb_info" in vector:
        info, info_signature = bundle.split_signed(vector.part("tcb_info"), "tcbInfo")
        identity, identity_signature = bundle.split_signed(vector.part("qe_identity"), "enclaveIdentity")
        names = ("pck_crl_issuer_chain", "root_ca_crl", "pck_crl", "tcb_info_issuer_chain")
        tdx = Collateral(
            **{name: vector.part(name) for name in (*names, "qe_identity_issuer_chain")},
            tcb_info=info,
            tcb_info_signature=info_signature,
            qe_identity=identity,
            qe_identity_signature=identity_signature,
        )
    if ak:
        key = TpmEndorsements(certificate=vector.part("ak_cert"), chain=vector.part("ak_chain"))
    return AzureEndorsements(snp=snp, tdx=tdx, ak=key)


def _now(vector: Vector) -> datetime:
    return vector.now if vector.meta["verify_time"] else SOME_TIME


def _verify(vector: Vector) -> Claims:
    return verify(evidence(vector), anchors=SHIPPED, collateral=endorsements(vector), now=_now(vector)).value


@pytest.mark.parametrize("vector", FOUND, ids=lambda vector: vector.name)
def test_vector(vector: Vector) -> None:
    """Genuine evidence verifies to its recorded claims; everything else is refused, or cannot be decided."""
    if vector.outcome == "invalid":
        with pytest.raises(KluisError) as caught:
            _verify(vector)
        assert not isinstance(caught.value, UnavailableError)
        return
    if vector.outcome in ("indeterminate", "parse-only"):
        with pytest.raises(UnavailableError) as undecided:
            _verify(vector)
        assert undecided.value.code == "collateral_missing"
        assert undecided.value.hint
        assert ("signed by nobody" in str(undecided.value)) == (vector.outcome == "parse-only")
        return
    assert vector.outcome == "valid"
    _check(_verify(vector), vector.known, vector.expected["checks"])


def _check(claims: Claims, known: dict[str, Any], checks: dict[str, Any]) -> None:
    vendor = claims.vendor
    assert isinstance(vendor, AzureClaims)
    hardware = vendor.hardware
    assert hardware.report_data.hex() == known["report_data"]
    assert vendor.vm_id == known["vm_unique_id"]
    assert dict(vendor.configuration) == known["vm_configuration"]
    assert list(vendor.key_ids) == known["kids"]
    assert claims.report_data.hex() == known["user_data"].lower()
    assert vendor.header_version == known["hcl_header_version"]
    if known["report_type"] == "SNP":
        assert claims.level is ProtectionLevel.HARDWARE_SNP
        assert claims.measurement.value.hex() == known["measurement"]
        assert claims.platform.id.hex() == known["chip_id"]
    else:
        assert claims.level is ProtectionLevel.HARDWARE_TDX
        assert claims.measurement.value.hex() == known["mrtd"]
        assert claims.tcb.status == checks["td_tcb_status"]
        assert list(claims.tcb.advisories) == checks["td_advisories"]
    if "tpm_extra_data" not in known:
        assert (claims.nonce, vendor.tpm) == (None, None)
        return
    assert vendor.tpm is not None
    assert (claims.nonce or b"").hex() == known["tpm_extra_data"]
    tpm = vendor.tpm.vendor
    assert isinstance(tpm, TpmClaims)
    assert [[f"{0xB:#x}", sorted(tpm.pcrs["sha256"])]] == known["tpm_pcr_selection"]
    assert f"{tpm.firmware_version:#x}" == known["tpm_firmware"]
    assert {f"pcr{index}" for index in tpm.pcrs["sha256"]} <= set(claims.registers)


@pytest.mark.parametrize("vector", CERTIFIED, ids=lambda vector: vector.name)
def test_certified_key(vector: Vector) -> None:
    """A real vTPM's certificate is of the key that the report binds, and under the cloud's root."""
    window = vector.known["ak_cert"]
    now = datetime.fromisoformat(window["not_before"])
    given = endorsements(vector, ak=True)
    claims = verify(evidence(vector), anchors=SHIPPED, collateral=given, now=now).value
    assert isinstance(claims.vendor, AzureClaims)
    assert claims.vendor.key_certified
    assert claims.valid_until == datetime.fromisoformat(window["not_after"])


@pytest.mark.parametrize("vector", FOUND, ids=lambda vector: vector.name)
def test_endorsements_as_json(vector: Vector) -> None:
    """Endorsements are written and read again."""
    given = endorsements(vector, ak="ak_cert" in vector)
    assert AzureEndorsements.from_json(given.to_json()) == given
    assert json.loads(given.to_json()) is not None
