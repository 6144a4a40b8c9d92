"""What a guest hands over: a bare report, the firmware's response, or certificates after a report."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.snp import response, table
from tests.formats.snp import samples
from tests.strategies import PROPERTY, mutations

REPORT = samples.make(5).encode()
HEADER = bytes(4) + (1184).to_bytes(4, "little") + bytes(24)
CERTIFICATES = table.build({table.VLEK: b"vlek"}).encode()


@pytest.mark.parametrize(
    ("data", "header", "padding"),
    [
        (REPORT, False, 0),
        (HEADER + REPORT, True, 0),
        (HEADER + REPORT + bytes(4000 - 1216), True, 2784),
        (REPORT + CERTIFICATES, False, 0),
    ],
    ids=["bare", "response", "Linux response", "extended"],
)
def test_wrappers(data: bytes, header: bool, padding: int) -> None:
    """The report inside is the same in every wrapper, and each is written again as it came."""
    assert response.matches(data)
    read = response.parse(data)
    assert (read.report, read.signed) == (samples.make(5), REPORT[:0x2A0])
    assert (read.header, read.padding, read.encode()) == (header, padding, data)
    assert (read.table is not None) is data.endswith(CERTIFICATES)


def test_the_largest_table() -> None:
    """A table of the maximum size is accepted after a report."""
    read = response.parse(REPORT + bytes(table.MAX_SIZE))
    assert read.table is not None
    assert read.table.size == table.MAX_SIZE


def test_matches_nothing_else() -> None:
    """Other vendors' evidence, JSON and empty input are not SNP."""
    for other in (b"", b"\3", bytes(1184), b"\3\0\2\0" * 300, b"\4\0\2\0" * 300, b'{"a":1}', b"HCLA" * 400):
        assert not response.matches(other)
    for version in (2, 3, 5):
        assert response.matches(version.to_bytes(4, "little"))
    rest = REPORT[4:]
    for version in (1, 6, 127):  # a version to come is SNP of an unsupported version
        assert response.matches(version.to_bytes(4, "little") + rest)
        assert not response.matches(version.to_bytes(4, "little") + bytes(1180))
    for version in (128, 0x81, 256):  # a TDREPORT begins with 0x81
        assert not response.matches(version.to_bytes(4, "little") + rest)


REFUSED: dict[str, tuple[bytes, str, str]] = {
    "size": (
        bytes(4) + (1183).to_bytes(4, "little") + bytes(24) + REPORT,
        "SNP report response.report_size at 0x4: want 1184, got 1183",
        "bad_length",
    ),
    "reserved": (
        HEADER[:-1] + b"\1" + REPORT,
        "SNP report response.reserved at 0x1f: must be zero, found 0x01",
        "bad_encoding",
    ),
    "cut": (
        HEADER + REPORT[:-1],
        "SNP report response.report at 0x20: needs 1184 bytes, 1183 left",
        "truncated",
    ),
    "status cut": (
        b"\0" * 4 + b"\1",
        "SNP report response.report_size at 0x4: needs 4 bytes, 1 left",
        "truncated",
    ),
    "padding": (
        HEADER + REPORT + b"\0\1",
        "SNP report response.padding at 0x4c1: must be zero, found 0x01",
        "trailing_data",
    ),
    "large": (HEADER + bytes(4000), "SNP report response: is 4032 bytes, must be at most 4000", "too_large"),
    "large with certificates": (
        REPORT + bytes(table.MAX_SIZE + 1),
        "SNP report: is 263329 bytes, must be at most 263328",
        "too_large",
    ),
    "report inside": (
        HEADER + REPORT[:0x4F] + b"\1" + REPORT[0x50:],
        "SNP report v5.reserved at 0x6f: must be zero, found 0x01",
        "bad_encoding",
    ),
    "table cut": (
        REPORT + CERTIFICATES[:-1],
        "SNP certificate table: a8074bc2-a25a-483e-aae6-39c045a0b8a1: 4 bytes at 0x30 of 51 bytes",
        "bad_length",
    ),
    "a byte after a report": (
        REPORT + b"\0",
        "SNP certificate table entry at 0x4a0: is 1 bytes, must be 24",
        "truncated",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """Lengths that lie and reserved bytes are refused, at their place in the whole."""
    data, message, code = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        response.parse(data)
    assert (str(caught.value), caught.value.code) == (message, code)


@PROPERTY
@given(mutations(REPORT, HEADER + REPORT + bytes(9), REPORT + CERTIFICATES))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = response.parse(data)
    except KluisError:
        return
    assert read.encode() == data
