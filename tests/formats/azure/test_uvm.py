"""Endorsements of utility VMs: the contents of both forms, and malformed ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.azure import uvm
from kluis.formats.x509 import Scheme
from tests.evidence.azure.endorsing import FEED, MEASUREMENT, USAGE, endorsement, older, signed, signer

BY = signer()
NEW, OLD = endorsement(BY), older(BY)


def test_both_forms() -> None:
    """The same is said in a header's claims, and in a payload of JSON."""
    for data, svn in ((NEW, 104), (OLD, 100)):
        found = uvm.parse(data)
        assert (found.issuer, found.feed, found.svn) == (BY.issuer, FEED, svn)
        assert (found.measurement, found.chain, found.scheme) == (MEASUREMENT, BY.chain, Scheme.PS384)


@given(st.integers(0, len(OLD)), st.binary(max_size=4))
def test_only_our_errors(at: int, put: bytes) -> None:
    """Whatever bytes there are, only our errors escape."""
    for data in (OLD, NEW):
        try:
            uvm.parse(data[:at] + put + data[at + len(put) :])
        except (FormatError, UnsupportedError):
            continue


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (endorsement(BY, bytes(32)), "UVM endorsement: want a launch digest of 48 bytes, got 32"),
        (endorsement(BY, svn=1 << 32), "UVM endorsement.cwt.svn: want 0..4294967295, got 4294967296"),
        (
            signed(BY, {15: {1: BY.issuer, 2: FEED, "svn": 1}, 258: -16}, MEASUREMENT),
            "UVM endorsement.payload_hash: want -43, SHA-384",
        ),
        (
            signed(BY, {1: -7, 15: {1: BY.issuer, 2: FEED, "svn": 1}, 258: -43}, MEASUREMENT),
            "UVM endorsement.alg: want one of [-38, -35], got -7",
        ),
        (
            signed(BY, {3: "text/plain", "iss": BY.issuer, "feed": FEED}, b"{}"),
            "UVM endorsement.content_type: want application/json",
        ),
        (
            older(BY, svn="-1"),
            "UVM endorsement.payload.x-ms-sevsnpvm-guestsvn: want a number, got '-1'",
        ),
        (
            older(BY, **{"x-ms-sevsnpvm-launchmeasurement": "zz"}),
            "UVM endorsement.payload.x-ms-sevsnpvm-launchmeasurement: is not hex",
        ),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    """Malformed digests, versions and payloads are refused."""
    with pytest.raises((FormatError, UnsupportedError)) as refused:
        uvm.parse(data)
    assert refused.value.message == message


def test_names_of_issuers() -> None:
    """A name requires a root's fingerprint and a usage; other names are unsupported."""
    found = uvm.parse_did(BY.issuer)
    assert found.usage == USAGE
    for text in ("did:web:example", BY.issuer.replace("sha256", "sha512"), BY.issuer + "::subject:CN:x"):
        with pytest.raises(UnsupportedError):
            uvm.parse_did(text)
