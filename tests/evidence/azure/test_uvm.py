"""Endorsements of utility VMs: one forged case a step, and Microsoft's own."""

from __future__ import annotations

import dataclasses

import pytest

from kluis.errors import AuthenticityError
from kluis.evidence import TrustAnchors
from kluis.evidence.azure.uvm import verify
from kluis.evidence.context import Context
from tests.evidence.azure.endorsing import FEED, MEASUREMENT, Signer, endorsement, older, signer
from tests.vectors import MISSING, VECTORS

CONTEXT = Context(TrustAnchors.shipped())
BY, OTHER = signer(), signer()
REAL = VECTORS / "ccf" / "scitt" / "uvm_0.2.10.cose"


@pytest.mark.parametrize("made", [endorsement, older])
def test_an_endorsement(made: object) -> None:
    """Both forms hold, though the signer's certificate has run out."""
    found = verify(made(BY), context=CONTEXT)  # type: ignore[operator]
    assert (found.issuer, found.feed, found.measurement) == (BY.issuer, FEED, MEASUREMENT)


def swapped(*chain: bytes) -> Signer:
    """The signer with another chain."""
    return dataclasses.replace(BY, chain=chain)


LEAF, MIDDLE, ROOT = BY.chain


def test_issued_by_another() -> None:
    """Step 1: a certificate that the next one's key did not sign."""
    with pytest.raises(AuthenticityError) as refused:
        verify(endorsement(swapped(LEAF, OTHER.chain[1], OTHER.chain[2])), context=CONTEXT)
    assert refused.value.code == "cert_chain"


def test_issued_by_no_authority() -> None:
    """Step 1: a certificate between that may issue nothing."""
    with pytest.raises(AuthenticityError) as refused:
        verify(endorsement(signer(ca=False)), context=CONTEXT)
    assert refused.value.message == "UVM endorsement: 'middle' may issue nothing"


def test_another_root() -> None:
    """Step 2: the chain does not reach the certificate that the issuer's name states."""
    with pytest.raises(AuthenticityError) as refused:
        verify(endorsement(BY, issuer=OTHER.issuer), context=CONTEXT)
    assert refused.value.code == "root_untrusted"


def test_another_usage() -> None:
    """Step 3: a signer of the same root that has another usage, or none."""
    for usage in ("1.3.6.1.4.1.311.76.59.1.1", ""):
        with pytest.raises(AuthenticityError) as refused:
            verify(endorsement(signer(usage=usage)), context=CONTEXT)
        assert refused.value.message == (
            "UVM endorsement: want a signer for usage 1.3.6.1.4.1.311.76.59.1.2, got another"
        )


@pytest.mark.parametrize("usage", ["...", "123", "1..3", f"1.{'9' * 120}"])
def test_a_usage_that_is_no_identifier(usage: str) -> None:
    """Step 3: signers choose their own names, so no certificate is accepted by name."""
    issuer = f"{BY.issuer.rpartition(':')[0]}:{usage}"
    with pytest.raises(AuthenticityError) as refused:
        verify(endorsement(BY, issuer=issuer), context=CONTEXT)
    assert refused.value.message == f"UVM endorsement: want a signer for usage {usage}, got another"


def test_another_signature() -> None:
    """Step 4: another key signed, or something else is said."""
    forged = endorsement(dataclasses.replace(BY, key=OTHER.key))
    changed = endorsement(BY).replace(MEASUREMENT, bytes(48))
    for data in (forged, changed):
        with pytest.raises(AuthenticityError) as refused:
            verify(data, context=CONTEXT)
        assert refused.value.code == "sig_cose"


@pytest.mark.skipif(not REAL.exists(), reason=MISSING)
def test_microsofts_own() -> None:
    """A real endorsement, under Microsoft's supply chain root."""
    found = verify(REAL.read_bytes(), context=CONTEXT)
    assert found.issuer == (
        "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.2"
    )
    assert (found.feed, found.svn) == (FEED, 104)
    assert found.measurement.hex().startswith("4904167aa9102a75")
