"""Windows' platform claims: the same bytes, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.tpm import platform_claim
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.platform_claim import PlatformClaim

MADE = PlatformClaim(
    bank=HashId.SHA256, values=(bytes(32),) * 24, quote=b"quote", signature=b"sig", log=b"log"
).encode()


def test_written_and_read() -> None:
    """What is written is read as it was."""
    found = platform_claim.parse(MADE)
    assert (found.bank, found.quote, found.signature, found.log) == (HashId.SHA256, b"quote", b"sig", b"log")
    assert found.encode() == MADE


@given(st.integers(0, 64), st.binary(max_size=4))
def test_same_bytes_or_refused(at: int, put: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    data = MADE[:at] + put + MADE[at + len(put) :]
    try:
        parsed = platform_claim.parse(data)
    except FormatError:
        return
    assert parsed.encode() == data


def test_the_short_header() -> None:
    """An older claim names no bank: it is of SHA-1."""
    head = [platform_claim.MAGIC, 2, 28, 24 * 20, 1, 1, 0]
    data = b"".join(number.to_bytes(4, "little") for number in head) + bytes(24 * 20) + b"qs"
    # The bank's place is the first value's: with the short header nothing is read twice.
    with_short = platform_claim.parse(data)
    assert with_short.bank is HashId.SHA1
    assert (with_short.quote, with_short.signature) == (b"q", b"s")


def test_another_tpm() -> None:
    """A claim of a TPM 1.2 is refused, and so is one that is none."""
    with pytest.raises(UnsupportedError):
        platform_claim.parse(MADE[:4] + b"\1" + MADE[5:])
    with pytest.raises(FormatError) as refused:
        platform_claim.parse(b"none" + MADE[4:])
    assert refused.value.message == "platform claim.magic at 0x0: want 0x44504150, got 0x656e6f6e"
