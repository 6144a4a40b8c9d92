"""Real TPM quotes and event logs, and negatives made of them by one change: all end as recorded."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kluis.errors import KluisError
from kluis.evidence import Claims, ProtectionLevel, TrustAnchors, verify
from kluis.evidence.eventlog.judgement import Proof
from kluis.evidence.tpm.claims import TpmClaims
from kluis.formats.tpm import public
from kluis.formats.tpm.endorsements import TpmEndorsements
from tests.evidence.tpm.forge import collection
from tests.vectors import MISSING, Vector, found

FOUND = found("tpm")
# None of these contains a time.
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _area(vector: Vector) -> bytes | None:
    """The key's public area, if it is recorded next to the quote."""
    if "ak_public_area" not in vector.meta or "original" not in vector:
        return None
    data = vector.part("original")
    return data if data[:2] in (b"\x00\x01", b"\x00\x23") else None


def _verify(vector: Vector) -> Claims:
    parts = {"tpm_quote": vector.part("quote_msg"), "tpm_signature": vector.part("quote_sig")}
    dump = "original" in vector and "pcrs" not in vector
    parts["pcrs"] = vector.part("original") if dump else vector.part("pcrs") if "pcrs" in vector else b"{}"
    if "event_log" in vector:
        parts["event_log"] = vector.part("event_log")
    anchors = TrustAnchors.from_pem(vector.part("ak_pub"), ProtectionLevel.VTPM)
    collateral = TpmEndorsements(public=_area(vector))
    return verify(collection(parts), anchors=anchors, collateral=collateral, now=NOW).value


@pytest.mark.skipif(not FOUND, reason=MISSING)
@pytest.mark.parametrize("vector", FOUND, ids=lambda vector: vector.name)
def test_vector(vector: Vector) -> None:
    """Genuine quotes verify to their recorded fields; everything else is refused for its reason."""
    nonce = vector.known.get("nonce")
    if vector.outcome == "invalid":
        if nonce is not None and nonce != vector.known["extra_data"]:
            # Which nonce is wanted is appraisal's question: it finds another one in the claims.
            assert _verify(vector).nonce != bytes.fromhex(nonce)
            return
        with pytest.raises(KluisError):
            _verify(vector)
        return
    claims = _verify(vector)
    known, vendor = vector.known, claims.vendor
    assert isinstance(vendor, TpmClaims)
    assert claims.level is ProtectionLevel.VTPM
    assert (claims.nonce or b"").hex() == known["extra_data"]
    assert nonce in (None, known["extra_data"])
    assert claims.measurement.value.hex() == known["pcr_digest"]
    assert (vendor.clock_milliseconds, vendor.reset_count) == (known["clock"], known["reset_count"])
    assert f"{vendor.firmware_version:#x}" == known["firmware_version"]
    ((bank, indices),) = known["pcr_selection"]
    assert [sorted(held) for held in vendor.pcrs.values()] == [indices]
    assert len(claims.registers) == (0 if bank == "0x4" else len(indices))
    area = vector.meta.get("ak_public_area")
    if vendor.key_attributes is not None and area:
        assert f"{vendor.key_attributes:#x}" == area["attributes"]
    replayed = vector.expected.get("checks", {}).get("event_log_replay")
    if replayed:
        assert vendor.log is not None
        assert sorted(vendor.log.reproduced) == replayed["pcrs"]
        assert sorted(vendor.log.contradicted) == replayed["mismatching_pcrs"]
        assert len(vendor.log.events) == replayed["events"]
        assert vendor.secure_boot is True


UNTRUSTED = [vector for vector in FOUND if vector.outcome == "replay-ok-semantics-untrusted"]


@pytest.mark.skipif(not UNTRUSTED, reason=MISSING)
@pytest.mark.parametrize("vector", UNTRUSTED, ids=lambda vector: vector.name)
def test_a_type_is_in_no_digest(vector: Vector) -> None:
    """Events of a log may be retyped and it still replays: then nothing of them is believed."""
    vendor = _verify(vector).vendor
    assert isinstance(vendor, TpmClaims)
    assert vendor.log is not None
    assert vendor.secure_boot is None
    assert vendor.log.explained
    retyped = [judged for judged in vendor.log.events if judged.proof is Proof.UNKNOWN]
    assert retyped
    assert {judged.register for judged in retyped} <= vendor.log.untrusted


AREAS = [vector for vector in FOUND if _area(vector)]


@pytest.mark.skipif(not AREAS, reason=MISSING)
@pytest.mark.parametrize("vector", AREAS, ids=lambda vector: vector.name)
def test_areas_are_used(vector: Vector) -> None:
    """A real public area is that of the named key, and of a restricted one."""
    vendor = _verify(vector).vendor
    assert isinstance(vendor, TpmClaims)
    assert vendor.key_name == public.parse(_area(vector) or b"").name
