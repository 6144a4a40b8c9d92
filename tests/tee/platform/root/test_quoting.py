"""Reports for one enclave of one platform, and quotes that say no hardware made them."""

from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import given

from kluis.errors import AuthenticityError, FormatError, KluisError
from kluis.formats.sgx import quote as sgx_quote
from kluis.formats.sgx.report import ReportBody
from kluis.formats.sgx.targetinfo import target_of
from kluis.tee.platform.root import quoting, reports
from tests.evidence.forge import Forge
from tests.strategies import PROPERTY, mutations

FORGE = Forge()
ROOT = bytes(range(32))
A = FORGE.body(mrenclave=b"A" * 32)
B = FORGE.body(mrenclave=b"B" * 32)
REPORT = reports.make_report(A, target_of(B), ROOT)
REFUSAL = "SGX report: was not made on this platform for this enclave"


def test_b_verifies_a() -> None:
    """A report by A with target B identifies A to B."""
    assert len(REPORT) == 432
    assert reports.verify_report(REPORT, B, ROOT) == A


OTHERS: dict[str, ReportBody] = {
    "another enclave": A,
    "another debug flag": dataclasses.replace(B, flags=B.flags | 2),
    "another extended feature": dataclasses.replace(B, xfrm=0x7),
    "another launch configuration": dataclasses.replace(B, configid=bytes(64)),
    "another configuration version": dataclasses.replace(B, configsvn=1),
    "another platform version": dataclasses.replace(B, cpusvn=bytes([2] * 16)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_only_b_can_check(name: str) -> None:
    """Whatever separates two enclaves separates their report keys."""
    with pytest.raises(AuthenticityError) as caught:
        reports.verify_report(REPORT, OTHERS[name], ROOT)
    assert str(caught.value) == REFUSAL


def test_another_platform() -> None:
    """A report of another platform does not verify here."""
    foreign = reports.make_report(A, target_of(B), os.urandom(32))
    with pytest.raises(AuthenticityError) as caught:
        reports.verify_report(foreign, B, ROOT)
    assert str(caught.value) == REFUSAL


def test_the_signer_is_not_in_the_key() -> None:
    """As on the processor, the target's signer and versions do not change its report key."""
    newer = dataclasses.replace(B, isvsvn=9, mrsigner=bytes(32))
    assert reports.verify_report(REPORT, newer, ROOT) == A


@PROPERTY
@given(mutations(REPORT))
def test_no_mutated_report_verifies(data: bytes) -> None:
    """Whatever is changed in a report, it does not verify; only our errors escape."""
    if data == REPORT:
        return
    with pytest.raises(KluisError) as caught:
        reports.verify_report(data, B, ROOT)
    assert isinstance(caught.value, AuthenticityError | FormatError)


def test_every_report_is_new() -> None:
    """Two reports of the same enclave differ in key id and MAC."""
    again = reports.make_report(A, target_of(B), ROOT)
    assert again[:384] == REPORT[:384]
    assert again[384:] != REPORT[384:]


def test_quotes_say_that_no_hardware_made_them() -> None:
    """The mark is in the header and in the family id, and the vendor is Intel's as formats demand."""
    parsed = sgx_quote.parse(FORGE.quote())
    assert parsed.header.user_data == b"KLUIS-NO-HARDWARE\0\0\0"
    assert parsed.body.isvfamilyid == b"KLUIS-NO-HARDWAR"
    assert parsed.header.qe_vendor_id == sgx_quote.QE_VENDOR_INTEL


def test_recertified_platform_is_the_same_platform() -> None:
    """Certified again, a platform keeps its keys and id, and its quotes state the new versions."""
    newer = FORGE.platform.recertify(FORGE.authority, FORGE.now, cpusvn=bytes([7] * 16), pcesvn=8)
    assert (newer.ppid, newer.pck, newer.attestation) == (
        FORGE.platform.ppid,
        FORGE.platform.pck,
        FORGE.platform.attestation,
    )
    assert sgx_quote.parse(quoting.make_quote(FORGE.body(), newer)).header.pce_svn == 8
    assert newer.chain != FORGE.platform.chain
