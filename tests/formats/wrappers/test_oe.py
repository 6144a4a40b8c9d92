"""Open Enclave's headers."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.wrappers import oe
from kluis.formats.wrappers.oe import Evidence
from tests.strategies import PROPERTY, mutations

QUOTE = bytes(432) + (5).to_bytes(4, "little") + b"12345"
REPORT = oe.encode_report(QUOTE)
EVIDENCE = Evidence(oe.SGX_ECDSA, QUOTE, b"claims").encode()


def test_report() -> None:
    """A remote report is a quote behind 16 bytes."""
    assert REPORT[:16].hex() == "0100000002000000" + len(QUOTE).to_bytes(8, "little").hex()
    assert oe.matches_report(REPORT)
    assert not oe.matches_report(REPORT + b"\0")
    assert oe.parse_report(REPORT) == QUOTE


def test_local_report_is_told_apart() -> None:
    """A local report is recognised, and refused: nobody can check it from afar."""
    local = REPORT[:4] + b"\1" + REPORT[5:]
    assert oe.matches_report(local)
    with pytest.raises(UnsupportedError) as caught:
        oe.parse_report(local)
    assert (caught.value.code, caught.value.hint) == (
        "signer_kind_mismatch",
        "a local report can be checked only on its own platform",
    )
    with pytest.raises(UnsupportedError):
        oe.parse_report(REPORT[:4] + b"\3" + REPORT[5:])


def test_evidence() -> None:
    """Claims follow the quote, which has its own length."""
    assert oe.matches_evidence(EVIDENCE)
    assert oe.parse_evidence(EVIDENCE) == Evidence(oe.SGX_ECDSA, QUOTE, b"claims")
    for kind in (oe.LEGACY_REPORT, oe.RAW_QUOTE):
        made = Evidence(kind, QUOTE, None)
        assert oe.parse_evidence(made.encode()) == made


@pytest.mark.parametrize(
    "kind", ["09268c336e0b45e58a2715644d0ef89a", "f228aa3fde4d49d3884cb2aa87a50da6", "00" * 16]
)
def test_other_formats(kind: str) -> None:
    """Local and EPID evidence is named and refused, and so is what is not known."""
    data = EVIDENCE[:4] + bytes.fromhex(kind) + EVIDENCE[20:]
    assert oe.matches_evidence(data) is (kind != "00" * 16)
    with pytest.raises(UnsupportedError) as caught:
        oe.parse_evidence(data)
    assert caught.value.code == "signer_kind_mismatch"


def test_refused() -> None:
    """Other versions, cut bytes, more bytes, too many bytes."""
    for read, good in ((oe.parse_report, REPORT), (oe.parse_evidence, EVIDENCE)):
        for data in (b"\x09" + good[1:], good[:-1], good + b"\0", bytes(oe.MAX_SIZE + 1)):
            with pytest.raises(FormatError):
                read(data)


def test_key_text() -> None:
    """A key is hashed as PEM in lines of 64, with a NUL."""
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    text = oe.pem_of(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    assert text == key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) + b"\0"
    assert load_pem_public_key(text[:-1]) == key


@PROPERTY
@given(mutations(EVIDENCE))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written as the same bytes; only our errors escape."""
    try:
        parsed = oe.parse_evidence(data)
    except KluisError:
        return
    assert parsed.encode() == data
