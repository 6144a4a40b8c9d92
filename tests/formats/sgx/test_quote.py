"""DCAP quotes: bytes to fields and back, with every length checked."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.sgx import quote
from kluis.formats.sgx.quote import SIGNED_SIZE
from kluis.formats.sgx.report import ReportBody
from kluis.formats.tdx.report import TdReport, TdReport15, TdReport15Ex
from tests.evidence.forge import IMAGE, Forge
from tests.evidence.intel.forge import TdxForge
from tests.strategies import PROPERTY, mutations

GOOD = Forge().quote()
SIZE_AT = SIGNED_SIZE


def test_fields() -> None:
    """A quote's fields are where Intel's table puts them."""
    parsed = quote.parse(GOOD)
    assert parsed.encode() == GOOD
    assert (parsed.header.version, parsed.header.attestation_key_type) == (3, 2)
    assert parsed.header.user_data == b"KLUIS-NO-HARDWARE\0\0\0"
    assert parsed.body.mrenclave == IMAGE == GOOD[112:144]
    assert parsed.body.report_data == GOOD[368:432]
    assert (parsed.signature, parsed.attestation_key) == (GOOD[436:500], GOOD[500:564])
    assert (parsed.qe_report_bytes, parsed.qe_signature) == (GOOD[564:948], GOOD[948:1012])
    assert (len(parsed.auth_data), parsed.certification_type) == (32, 5)
    assert parsed.certification_data.startswith(b"-----BEGIN CERTIFICATE-----\n")


def test_padding_is_zero_and_kept() -> None:
    """Zero bytes after the quote are its padding, and are written again."""
    parsed = quote.parse(GOOD + bytes(9))
    assert parsed.padding == 9
    assert parsed.encode() == GOOD + bytes(9)


def _set(at: int, value: bytes) -> bytes:
    return GOOD[:at] + value + GOOD[at + len(value) :]


REFUSED: dict[str, tuple[bytes, type[FormatError], str, str]] = {
    "nothing": (b"", FormatError, "DCAP quote.version at 0x0: needs 2 bytes, 0 left", "truncated"),
    "version": (
        _set(0, b"\6"),
        UnsupportedError,
        "DCAP quote version 6; supported: [3, 4, 5]",
        "bad_version",
    ),
    "key type": (
        _set(2, b"\3"),
        UnsupportedError,
        "DCAP quote v3.attestation_key_type at 0x2: want 2, got 3",
        "bad_type",
    ),
    "TEE type": (
        _set(4, b"\x81"),
        UnsupportedError,
        "DCAP quote v3.tee_type at 0x4: want 0x0, got 0x81",
        "bad_type",
    ),
    "body's reserved bytes": (
        _set(48 + 100, b"\1"),
        FormatError,
        "SGX report body.reserved at 0x94: must be zero, found 0x01",
        "bad_encoding",
    ),
    "quoting enclave's reserved bytes": (
        _set(564 + 100, b"\1"),
        FormatError,
        "SGX report body.reserved at 0x298: must be zero, found 0x01",
        "bad_encoding",
    ),
    "cut": (
        GOOD[:-1],
        FormatError,
        f"DCAP quote v3.signature_data at 0x1b4: needs {len(GOOD) - 436} bytes, {len(GOOD) - 437} left",
        "truncated",
    ),
    "header cut": (
        GOOD[:47],
        FormatError,
        "DCAP quote v3.header at 0x0: needs 48 bytes, 47 left",
        "truncated",
    ),
    "body cut": (
        GOOD[:431],
        FormatError,
        "DCAP quote v3.body at 0x30: needs 384 bytes, 383 left",
        "truncated",
    ),
    "a length that lies": (
        _set(SIZE_AT, (len(GOOD) - 437).to_bytes(4, "little")),
        FormatError,
        f"DCAP quote v3.signature_data.certification_data at 0x41c: needs {len(GOOD) - 1052} bytes, "
        f"{len(GOOD) - 1053} left",
        "truncated",
    ),
    "more signature data": (
        _set(SIZE_AT, (len(GOOD) - 435).to_bytes(4, "little")) + b"\0",
        FormatError,
        f"DCAP quote v3.signature_data at {len(GOOD):#x}: 1 bytes after the end",
        "trailing_data",
    ),
    "trailing": (
        GOOD + b"\0\1",
        FormatError,
        f"DCAP quote v3.padding at {len(GOOD) + 1:#x}: must be zero, found 0x01",
        "trailing_data",
    ),
    "large": (
        GOOD + bytes(65536),
        FormatError,
        f"DCAP quote: is {len(GOOD) + 65536} bytes, must be at most 65536",
        "too_large",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """Another version, a reserved byte, a length that does not fit: each with its place."""
    data, error, message, code = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        quote.parse(data)
    assert (type(caught.value), str(caught.value), caught.value.code) == (error, message, code)


FORGE = TdxForge()
KINDS = {
    "SGX quote v3": (FORGE.quote_of(Forge.body(FORGE), 3), ReportBody, 48),
    "SGX quote v4": (FORGE.quote_of(Forge.body(FORGE), 4), ReportBody, 48),
    "SGX quote v5": (FORGE.quote_of(Forge.body(FORGE), 5), ReportBody, 54),
    "TDX quote v4": (FORGE.quote(), TdReport, 48),
    "TDX quote v5, 1.0": (FORGE.quote_of(FORGE.td(), 5), TdReport, 54),
    "TDX quote v5, 1.5": (FORGE.quote(FORGE.td(TdReport15)), TdReport15, 54),
    "TDX quote v5, 1.5-Ex": (FORGE.quote(FORGE.td(TdReport15Ex)), TdReport15Ex, 54),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_version_and_body(name: str) -> None:
    """Each version and body reads into its fields and writes back; the signed bytes end with the body."""
    data, kind, start = KINDS[name]
    read = quote.parse(data)
    assert read.encode() == data
    assert (read.name, type(read.body)) == (name.partition(",")[0], kind)
    assert read.signed == data[: start + kind.SIZE]
    assert read.body.encode() == data[start : start + kind.SIZE]
    assert quote.matches(data, read.header.tee_type)
    assert not quote.matches(data, read.header.tee_type ^ 0x81)


V5 = KINDS["TDX quote v5, 1.5"][0]
V4 = KINDS["TDX quote v4"][0]
OUTER = 48 + 584 + 4 + 128


def _put(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


REFUSED_LATER: dict[str, tuple[bytes, type[FormatError], str, str]] = {
    "another TEE": (
        _put(V4, 4, b"\x82"),
        UnsupportedError,
        "DCAP quote v4.tee_type at 0x4: want 0x0 or 0x81, got 0x82",
        "bad_type",
    ),
    "a body type that nobody knows": (
        _put(V5, 48, b"\5"),
        UnsupportedError,
        "DCAP quote v5.body_type at 0x30: want one of TDX, got 5",
        "bad_type",
    ),
    "an enclave's body in a quote of TDX": (
        _put(V5, 48, b"\1"),
        UnsupportedError,
        "DCAP quote v5.body_type at 0x30: want one of TDX, got 1",
        "bad_type",
    ),
    "a body type with another's size": (
        _put(V5, 48, b"\2"),
        FormatError,
        "DCAP quote v5.body_size at 0x32: want 584 for body type 2, got 648",
        "bad_length",
    ),
    "a size that is not the type's": (
        _put(V5, 50, (584).to_bytes(4, "little")),
        FormatError,
        "DCAP quote v5.body_size at 0x32: want 648 for body type 3, got 584",
        "bad_length",
    ),
    "another outer type": (
        _put(V4, OUTER, b"\5"),
        UnsupportedError,
        "DCAP quote v4.signature_data.certification_type: want 6, got 5",
        "bad_type",
    ),
    "an outer size that is less": (
        _put(V4, OUTER + 2, (len(V4) - OUTER - 7).to_bytes(4, "little")),
        FormatError,
        f"DCAP quote v4.signature_data at {len(V4) - 1:#x}: 1 bytes after the end",
        "trailing_data",
    ),
    "an inner report within the report": (
        dataclasses.replace(quote.parse(V4), certification_type=6).encode(),
        UnsupportedError,
        f"DCAP quote v4.certification_type at {OUTER + 6 + 384 + 64 + 34:#x}: want how the platform is "
        "certified, got another quoting enclave's report",
        "bad_type",
    ),
    "certification of no type": (
        dataclasses.replace(quote.parse(GOOD), certification_type=8).encode(),
        UnsupportedError,
        "DCAP quote v3.certification_type at 0x416: want 1 to 7, got 8",
        "bad_type",
    ),
}


@pytest.mark.parametrize("name", REFUSED_LATER)
def test_refuses_of_later_versions(name: str) -> None:
    """Types and sizes of bodies and of certification data, each with its place."""
    data, error, message, code = REFUSED_LATER[name]
    with pytest.raises(FormatError) as caught:
        quote.parse(data)
    assert (type(caught.value), str(caught.value), caught.value.code) == (error, message, code)


@PROPERTY
@given(mutations(*(data for data, _, _ in KINDS.values())))
def test_same_bytes_or_refused_of_all(data: bytes) -> None:
    """Whatever parses writes back to the same bytes, in every version; only our errors escape."""
    try:
        parsed = quote.parse(data)
    except KluisError:
        return
    assert parsed.encode() == data


@PROPERTY
@given(
    mutations(GOOD, dataclasses.replace(quote.parse(GOOD), auth_data=b"", certification_data=b"").encode())
)
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        parsed = quote.parse(data)
    except KluisError:
        return
    assert parsed.encode() == data
