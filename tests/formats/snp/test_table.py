"""Certificate tables: entries in bounds, apart, and nothing that no entry claims."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.snp import table
from tests.strategies import PROPERTY, mutations

MADE = table.build({table.VCEK: b"vcek!", table.ASK: b"ask", table.ARK: b"ark", table.CRL: b"crl"})
GOOD = MADE.encode()


def test_round_trip() -> None:
    """A table's certificates are found by GUID; zero bytes may pad it, and stay."""
    assert table.parse(GOOD) == MADE
    assert (MADE.get(table.VCEK), MADE.get(table.VLEK), MADE.get(table.CRL)) == (b"vcek!", None, b"crl")
    padded = GOOD + bytes(4096 - len(GOOD))
    assert table.parse(padded).encode() == padded
    assert table.parse(padded).blobs == MADE.blobs
    assert table.parse(bytes(24)).blobs == ()
    assert table.parse(bytes(table.MAX_SIZE)).size == table.MAX_SIZE


def test_build() -> None:
    """Certificates follow the entries and the entry that ends them."""
    assert MADE.size == 5 * 24 + 14
    assert [(blob.offset, blob.data) for blob in MADE.blobs] == [
        (120, b"vcek!"),
        (125, b"ask"),
        (128, b"ark"),
        (131, b"crl"),
    ]
    assert table.build({table.VCEK: b"a", table.ASK: b"b"}).encode()[72:] == b"ab"


def _entry(name: bytes, offset: int, length: int) -> bytes:
    return name + offset.to_bytes(4, "little") + length.to_bytes(4, "little")


END = bytes(24)
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "SNP certificate table entry at 0x0: is 0 bytes, must be 24", "truncated"),
    "no end": (
        _entry(table.VCEK, 24, 1)[:24],
        "SNP certificate table: 63da758d-e664-4564-adc5-f4b93be8accd: 1 bytes at 0x18 of 24 bytes",
        "bad_length",
    ),
    "no end after a good one": (
        _entry(table.VCEK, 24, 1) + b"x",
        "SNP certificate table entry at 0x18: is 1 bytes, must be 24",
        "truncated",
    ),
    "past the end": (
        _entry(table.VCEK, 48, 2) + END + b"x",
        "SNP certificate table: 63da758d-e664-4564-adc5-f4b93be8accd: 2 bytes at 0x30 of 49 bytes",
        "bad_length",
    ),
    "length of a kind": (
        _entry(table.VCEK, 0xFFFFFFFF, 0xFFFFFFFF) + END,
        "SNP certificate table: 63da758d-e664-4564-adc5-f4b93be8accd: 4294967295 bytes at 0xffffffff "
        "of 48 bytes",
        "bad_length",
    ),
    "empty": (
        _entry(table.VCEK, 48, 0) + END,
        "SNP certificate table: 63da758d-e664-4564-adc5-f4b93be8accd: 0 bytes at 0x30 of 48 bytes",
        "bad_length",
    ),
    "over the entries": (
        _entry(table.VCEK, 47, 2) + END + b"x",
        "SNP certificate table: 63da758d-e664-4564-adc5-f4b93be8accd at 0x2f overlaps what is before it",
        "bad_length",
    ),
    "over another": (
        _entry(table.VCEK, 72, 2) + _entry(table.ASK, 73, 1) + END + b"xy",
        "SNP certificate table: 4ab7b379-bbac-4fe4-a02f-05aef327c782 at 0x49 overlaps what is before it",
        "bad_length",
    ),
    "twice": (
        _entry(table.VCEK, 72, 1) + _entry(table.VCEK, 73, 1) + END + b"xy",
        "SNP certificate table: 63da758d-e664-4564-adc5-f4b93be8accd appears twice",
        "duplicate_key",
    ),
    "unclaimed": (
        GOOD + b"\0\1",
        f"SNP certificate table at {len(GOOD) + 1:#x}: must be zero, found 0x01",
        "trailing_data",
    ),
    "many": (
        b"".join(_entry(bytes([i + 1]) * 16, 24 * 18 + i, 1) for i in range(17)) + END + bytes(17),
        "SNP certificate table: more than 16 entries",
        "too_large",
    ),
    "large": (
        bytes(256 * 1024 + 1),
        "SNP certificate table: is 262145 bytes, must be at most 262144",
        "too_large",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """Lengths that lie, entries that overlap or repeat, bytes unclaimed: each is named."""
    data, message, code = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        table.parse(data)
    assert (str(caught.value), caught.value.code) == (message, code)


@PROPERTY
@given(mutations(GOOD, GOOD + bytes(8)))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = table.parse(data)
    except KluisError:
        return
    assert read.encode() == data
