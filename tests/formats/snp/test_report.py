"""SNP reports: every version's table, and what is reserved stays zero."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.snp import report
from tests.formats.snp import samples
from tests.strategies import PROPERTY, mutations

ALL = [samples.make(version).encode() for version in report.VERSIONS]


@pytest.mark.parametrize("version", report.VERSIONS)
def test_fields(version: int) -> None:
    """A report's fields are where AMD's table puts them, and it is written as it was read."""
    made = samples.make(version, r=b"\1" + bytes(47), s=b"\2" + bytes(47))
    data = made.encode()
    read = report.parse(data)
    assert (read, read.encode(), len(data)) == (made, data, 1184)
    assert data[0x90:0xC0] == read.measurement == b"m" * 48
    assert data[0x50:0x90] == read.report_data == b"d" * 64
    assert data[0x1A0:0x1E0] == read.chip_id == samples.CHIP_ID
    assert (data[0x2A0], data[0x2E8]) == (1, 2)
    assert read.signature == bytes(47) + b"\1" + bytes(47) + b"\2"
    assert str(read.current_version) == str(read.committed_version) == "1.55.29"
    assert read.cpuid == ((0x19, 1, 1) if version > 2 else None)
    assert read.launch_mitigations == (0xB if version > 4 else None)
    assert read.current_mitigations == (0xF if version > 4 else None)


def test_a_report_cut_short() -> None:
    """For a report that is too short for its version the error states the offset, and what to check."""
    with pytest.raises(FormatError) as caught:
        report.parse(b"\3\0", base=32)
    assert str(caught.value) == "SNP report at 0x20: is 2 bytes, must be 1184"
    assert caught.value.hint == "the file may be cut short"
    with pytest.raises(FormatError) as caught:
        report.version_of(b"")
    assert str(caught.value) == "SNP report at 0x0: is 0 bytes, must be 1184"


def test_an_older_version_reserves_what_a_newer_one_claims() -> None:
    """A new version is decided by its number, never read with another's table."""
    newer = samples.make(5).encode()
    for version in (2, 3):
        with pytest.raises(FormatError) as caught:
            report.parse(bytes([version]) + newer[1:])
        assert caught.value.code == "bad_encoding"


def _set(at: int, value: bytes, version: int = 3) -> bytes:
    data = samples.make(version).encode()
    return data[:at] + value + data[at + len(value) :]


REFUSED: dict[str, tuple[bytes, type[FormatError], str, str]] = {
    "nothing": (b"", FormatError, "SNP report at 0x0: is 0 bytes, must be 1184", "truncated"),
    "short": (ALL[1][:-1], FormatError, "SNP report v3 at 0x0: is 1183 bytes, must be 1184", "truncated"),
    "long": (
        ALL[1] + b"\0",
        FormatError,
        "SNP report v3 at 0x0: is 1185 bytes, must be 1184",
        "trailing_data",
    ),
    "version 1": (
        _set(0, b"\1"),
        UnsupportedError,
        "SNP report version 1; supported: [2, 3, 4, 5]",
        "bad_version",
    ),
    "version 6": (
        _set(0, b"\6"),
        UnsupportedError,
        "SNP report version 6; supported: [2, 3, 4, 5]",
        "bad_version",
    ),
    "algorithm": (
        _set(0x34, b"\2"),
        UnsupportedError,
        "SNP report v3.signature_algo at 0x34: want 1, ECDSA P-384 with SHA-384, got 2",
        "bad_type",
    ),
    "reserved 0x4c": (
        _set(0x4F, b"\xcc", 2),
        FormatError,
        "SNP report v2.reserved at 0x4f: must be zero, found 0xcc",
        "bad_encoding",
    ),
    "reserved 0x188 of version 2": (
        _set(0x188, b"\x19", 2),
        FormatError,
        "SNP report v2.reserved at 0x188: must be zero, found 0x19",
        "bad_encoding",
    ),
    "reserved 0x18b": (
        _set(0x18B, b"\1"),
        FormatError,
        "SNP report v3.reserved at 0x18b: must be zero, found 0x01",
        "bad_encoding",
    ),
    "reserved 0x1eb": (
        _set(0x1EB, b"\1"),
        FormatError,
        "SNP report v3.reserved at 0x1eb: must be zero, found 0x01",
        "bad_encoding",
    ),
    "reserved 0x1ef": (
        _set(0x1EF, b"\1"),
        FormatError,
        "SNP report v3.reserved at 0x1ef: must be zero, found 0x01",
        "bad_encoding",
    ),
    "reserved 0x1f8 of version 4": (
        _set(0x1F8, b"\1", 4),
        FormatError,
        "SNP report v4.reserved at 0x1f8: must be zero, found 0x01",
        "bad_encoding",
    ),
    "reserved 0x208 of version 5": (
        _set(0x208, b"\1", 5),
        FormatError,
        "SNP report v5.reserved at 0x208: must be zero, found 0x01",
        "bad_encoding",
    ),
    "above r": (
        _set(0x2D0, b"\1"),
        FormatError,
        "SNP report v3.reserved at 0x2d0: must be zero, found 0x01",
        "bad_encoding",
    ),
    "above s": (
        _set(0x318, b"\1"),
        FormatError,
        "SNP report v3.reserved at 0x318: must be zero, found 0x01",
        "bad_encoding",
    ),
    "last byte": (
        _set(0x49F, b"\1"),
        FormatError,
        "SNP report v3.reserved at 0x49f: must be zero, found 0x01",
        "bad_encoding",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """Another version or algorithm, a reserved byte, padding of the signature: each with its place.

    Padded signatures would give one report many encodings.
    """
    data, error, message, code = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        report.parse(data)
    assert (type(caught.value), str(caught.value), caught.value.code) == (error, message, code)


@PROPERTY
@given(mutations(*ALL))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = report.parse(data)
    except KluisError:
        return
    assert read.encode() == data
