"""Another vendor's verifier (``dcap-qvl``) reads our quotes as it reads Intel's."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.formats.sgx import quote as sgx_quote
from tests.evidence.forge import DEBUG, NOW, Forge
from tests.evidence.machine import MachineForge

dcap_qvl = pytest.importorskip("dcap_qvl", reason="pip install dcap-qvl")

FORGE = Forge()
QUOTE = FORGE.quote()
ROOT = FORGE.root.public_bytes(Encoding.DER)
WHEN = int(NOW.timestamp())

# Where a quote's parts begin. The header's SVNs and user data are signed, too.
REGIONS = {
    "header svn": 9,
    "header user data": 30,
    "cpusvn": 48,
    "attributes": 97,
    "mrenclave": 120,
    "mrsigner": 180,
    "configid": 250,
    "isvprodid": 304,
    "isvsvn": 306,
    "report data": 400,
    "quote signature": 440,
    "attestation key": 510,
    "QE report": 570,
    "QE report's mrsigner": 700,
    "QE report data": 890,
    "QE signature": 950,
    "authentication data": 1020,
    "PCK certificate": 1400,
}


def _collateral(forge: Forge) -> object:
    return dcap_qvl.QuoteCollateralV3.from_json(json.dumps(forge.authority.collateral(NOW)))


def _verify(quote: bytes, forge: Forge = FORGE, root: bytes = ROOT) -> object:
    return dcap_qvl.verify_with_root_ca(quote, _collateral(forge), root, WHEN)


def test_accepts() -> None:
    """Our quote, root and collateral are UpToDate to it, and it reads our platform's id."""
    report = _verify(QUOTE)
    assert (report.status, report.advisory_ids) == ("UpToDate", [])  # type: ignore[attr-defined]
    assert report.ppid == FORGE.platform.ppid  # type: ignore[attr-defined]


def test_ignores_an_endorsement() -> None:
    """The collateral of a platform in a machine has one member more, which it does not read."""
    machine = MachineForge(inside=FORGE)
    given = dcap_qvl.QuoteCollateralV3.from_json(machine.collateral().to_json().decode())
    assert b'"endorsement":' in machine.collateral().to_json()
    assert dcap_qvl.verify_with_root_ca(QUOTE, given, ROOT, WHEN).status == "UpToDate"


@pytest.mark.parametrize("region", REGIONS)
def test_refuses_a_flipped_bit(region: str) -> None:
    """One bit flipped anywhere that means something is refused."""
    at = REGIONS[region]
    with pytest.raises(ValueError, match=r"Verification failed|parse|decode"):
        _verify(QUOTE[:at] + bytes([QUOTE[at] ^ 1]) + QUOTE[at + 1 :])


def test_refuses_under_intels_root() -> None:
    """Under Intel's root our quotes are worth nothing."""
    with pytest.raises(ValueError, match="Verification failed"):
        dcap_qvl.verify(QUOTE, _collateral(FORGE), WHEN)


def test_refuses_under_another_emulated_root() -> None:
    """Nor under the root of another machine."""
    other = Forge()
    with pytest.raises(ValueError, match="Verification failed"):
        _verify(QUOTE, root=other.root.public_bytes(Encoding.DER))
    with pytest.raises(ValueError, match="Verification failed"):
        _verify(QUOTE, other, other.root.public_bytes(Encoding.DER))


def test_refuses_debug() -> None:
    """Its own policy refuses a debug enclave; ours is appraisal's."""
    with pytest.raises(ValueError, match="Debug mode is enabled"):
        _verify(FORGE.quote(FORGE.body(flags=DEBUG)))


def test_sees_recovery_and_revocation() -> None:
    """A TCB recovery and a revocation of our authority are seen by it."""
    forge = Forge()
    quote, root = forge.quote(), forge.root.public_bytes(Encoding.DER)
    forge.authority.recover(cpusvn=bytes([2] * 16), pcesvn=1, advisories=("KLUIS-SA-1",), now=NOW)
    report = _verify(quote, forge, root)
    assert (report.status, report.advisory_ids) == ("OutOfDate", ["KLUIS-SA-1"])  # type: ignore[attr-defined]
    forge.authority.revoke(forge.platform.chain, NOW)
    with pytest.raises(ValueError, match="Verification failed"):
        _verify(quote, forge, root)


def test_reads_what_we_read() -> None:
    """Its parser and ours agree on the body."""
    theirs = dcap_qvl.Quote.parse(QUOTE).report
    ours = sgx_quote.parse(QUOTE).body
    assert bytes(theirs.mr_enclave) == ours.mrenclave
    assert bytes(theirs.mr_signer) == ours.mrsigner
    assert bytes(theirs.report_data) == ours.report_data
    assert bytes(theirs.cpu_svn) == ours.cpusvn
