"""SGX quotes: bytes to fields and back, with every length checked."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.sgx import quote
from kluis.formats.sgx.quote import SIGNED_SIZE
from tests.evidence.forge import IMAGE, Forge
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
