"""Quotes: fields and back, and every way in which one is not a quote."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.tpm import attest
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.attest import Clock, Quote, Selection
from tests.strategies import PROPERTY, mutations
from tests.vectors import MISSING, Vector, found

CLOCK = Clock(milliseconds=5, reset_count=1, restart_count=2, safe=1, firmware_version=7)
QUOTE = Quote(
    qualified_signer=b"\x00\x0b" + b"s" * 32,
    extra_data=b"nonce",
    clock=CLOCK,
    selections=(Selection.of(HashId.SHA256, 0, 7, 23), Selection.of(HashId.SHA1, 10)),
    pcr_digest=b"d" * 32,
)
GOOD = QUOTE.encode()
REAL = [vector for vector in found("tpm") if vector.known]


def test_fields() -> None:
    """A quote's fields come back, and a selection names its PCRs in order."""
    parsed = attest.parse(GOOD)
    assert parsed == QUOTE
    assert [selection.indices for selection in parsed.selections] == [(0, 7, 23), (10,)]
    assert parsed.selections[0].bitmap == b"\x81\x00\x80"


@pytest.mark.skipif(not REAL, reason=MISSING)
@pytest.mark.parametrize("vector", REAL, ids=lambda vector: vector.name)
def test_real(vector: Vector) -> None:
    """Real quotes have the recorded fields, and are written as the same bytes."""
    data = vector.part("quote_msg")
    quote, known = attest.parse(data), vector.known
    assert quote.encode() == data
    assert quote.extra_data.hex() == known["extra_data"]
    assert quote.qualified_signer.hex() == known["qualified_signer"]
    assert quote.pcr_digest.hex() == known["pcr_digest"]
    clock = quote.clock
    assert (clock.milliseconds, clock.reset_count, clock.restart_count, clock.safe) == (
        known["clock"],
        known["reset_count"],
        known["restart_count"],
        known["safe"],
    )
    assert f"{clock.firmware_version:#x}" == known["firmware_version"]
    assert [[f"{s.bank:#x}", list(s.indices)] for s in quote.selections] == known["pcr_selection"]


def _with(**changes: object) -> bytes:
    fields = {name: getattr(QUOTE, name) for name in Quote.__dataclass_fields__}
    return Quote(**{**fields, **changes}).encode()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (bytes(1025), "is 1025 bytes, must be at most 1024", "too_large"),
        (b"\xfe" + GOOD[1:], "magic at 0x0: want 0xff544347, got 0xfe544347", "bad_magic"),
        (GOOD[:5] + b"\x17" + GOOD[6:], "type at 0x4: want 0x8018, got 0x8017", "bad_type"),
        (GOOD[:-1], "pcr_digest at .*: needs 32 bytes, 31 left", "truncated"),
        (GOOD + b"\0", "1 bytes after the end", "trailing_data"),
        (_with(qualified_signer=bytes(67)), "qualified_signer: is 67 bytes", "bad_length"),
        (_with(extra_data=bytes(67)), "extra_data: is 67 bytes", "bad_length"),
        (_with(pcr_digest=bytes(65)), "pcr_digest: is 65 bytes", "bad_length"),
        (
            _with(clock=Clock(milliseconds=0, reset_count=0, restart_count=0, safe=2, firmware_version=0)),
            "safe at .*: want 0 or 1, got 2",
            "bad_encoding",
        ),
        (_with(selections=(Selection(HashId.SHA256, b""),)), "select_size: want 1..4, got 0", "bad_length"),
        (_with(selections=(Selection(HashId.SHA256, bytes(5)),)), "want 1..4, got 5", "bad_length"),
    ],
)
def test_refused(data: bytes, message: str, code: str) -> None:
    """Each error states what, where, and the expected and actual value."""
    with pytest.raises(FormatError, match=message) as caught:
        attest.parse(data)
    assert caught.value.code == code


def test_selections_are_bounded_before_any_work() -> None:
    """A quote that selects one bank again and again costs nothing: it is refused before its signature."""
    twice = _with(selections=(Selection.of(HashId.SHA256, 0),) * 2)
    with pytest.raises(FormatError, match="a bank is selected twice") as caught:
        attest.parse(twice)
    assert caught.value.code == "duplicate_key"
    with pytest.raises(FormatError, match="selects 17 banks, must be at most 16"):
        attest.parse(_with(selections=(Selection.of(HashId.SHA256, 0),) * 17))


def test_unknown_bank() -> None:
    """A bank of a hash nobody knows is unsupported, not guessed."""
    data = GOOD.replace(b"\x00\x04\x03\x00\x04", b"\x00\x05\x03\x00\x04")
    with pytest.raises(UnsupportedError, match="hash 0x0005; supported"):
        attest.parse(data)


@PROPERTY
@given(mutations(GOOD))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written as the same bytes; only our errors escape."""
    try:
        parsed = attest.parse(data)
    except FormatError:
        return
    assert parsed.encode() == data
