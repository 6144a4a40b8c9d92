"""Attestations of go-tpm-tools."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.wrappers import gotpm
from tests.strategies import PROPERTY, mutations

AREA = bytes.fromhex("0001000b00050072")


def field(number: int, value: bytes | int) -> bytes:
    """One field of a message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def quote(bank: int = 0xB, pcrs: bytes | None = None) -> bytes:
    """A quote of one bank, over PCR 0 and 4."""
    values = field(2, field(2, b"\0" * 32)) + field(2, field(1, 4) + field(2, b"\4" * 32))
    return field(1, b"message") + field(2, b"signature") + field(3, field(1, bank) + (pcrs or values))


def attestation(*quotes: bytes, area: bytes = AREA, more: bytes = b"") -> bytes:
    """An attestation with an event log."""
    return field(1, area) + b"".join(field(2, each) for each in quotes) + field(3, b"log") + more


GOOD = attestation(quote(4), quote())


def test_attestation() -> None:
    """Key, quotes and log; the index of PCR 0 is left out, as the encoding has it."""
    assert gotpm.matches(GOOD)
    parsed = gotpm.parse(GOOD)
    assert (parsed.ak_public, parsed.event_log, parsed.tee) == (AREA, b"log", "")
    assert [each.bank for each in parsed.quotes] == [4, 11]
    assert parsed.quotes[1].pcrs == {0: b"\0" * 32, 4: b"\4" * 32}
    assert (parsed.quotes[1].message, parsed.quotes[1].signature) == (b"message", b"signature")


def test_more() -> None:
    """Certificates, and whether another report came along."""
    more = field(4, b"") + field(6, b"cert") + field(7, b"ica") + field(8, b"")
    parsed = gotpm.parse(attestation(quote(), more=more))
    assert (parsed.ak_certificate, parsed.intermediates, parsed.tee) == (b"cert", (b"ica",), "SEV-SNP")
    assert gotpm.parse(attestation(quote(), more=field(9, b""))).tee == "TDX"


def test_long_area() -> None:
    """An area of more than 127 bytes is recognised, too."""
    assert gotpm.matches(attestation(quote(), area=AREA.ljust(280, b"\0")))
    assert not gotpm.matches(b"\x0a\x05hello")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (attestation(), FormatError),
        (attestation(*[quote()] * 9), FormatError),
        (attestation(quote(), more=field(3, b"log")), FormatError),
        (attestation(quote(), more=field(10, b"")), UnsupportedError),
        (attestation(quote(), more=field(6, 1)), FormatError),
        (attestation(quote() + field(1, b"")), FormatError),
        (attestation(field(1, b"")), FormatError),
        (attestation(quote(pcrs=field(3, b""))), FormatError),
        (attestation(quote(pcrs=field(2, field(1, 24)))), FormatError),
        (attestation(quote(pcrs=field(2, field(3, 0)))), FormatError),
        (attestation(quote(pcrs=field(2, field(1, 1) + field(1, 1)))), FormatError),
        (attestation(quote(pcrs=field(2, b"") * 2)), FormatError),
        (bytes(gotpm.MAX_SIZE + 1), FormatError),
    ],
)
def test_refused(data: bytes, error: type[FormatError]) -> None:
    """What appears twice, has no place, or is not known."""
    with pytest.raises(FormatError) as caught:
        gotpm.parse(data)
    assert type(caught.value) is error


@PROPERTY
@given(mutations(GOOD))
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape."""
    gotpm.matches(data)
    try:
        gotpm.parse(data)
    except KluisError:
        return
