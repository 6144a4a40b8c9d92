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


def test_the_toolkits_own_words() -> None:
    """The headers are those of Microsoft's toolkit: PADS, and PAD2 that names the bank (0xb is SHA-256)."""
    parts = bytes(24 * 32) + b"quotesiglog"
    head = b"PAD2" + b"".join(n.to_bytes(4, "little") for n in (2, 32, 24 * 32, 5, 3, 3, 11))
    assert head + parts == MADE
    older = b"PADS" + b"".join(n.to_bytes(4, "little") for n in (2, 28, 24 * 20, 5, 3, 3))
    found = platform_claim.parse(older + bytes(24 * 20) + b"quotesiglog")
    assert (found.bank, found.named, found.signature) == (HashId.SHA1, False, b"sig")
    assert found.encode() == older + bytes(24 * 20) + b"quotesiglog"
    with pytest.raises(UnsupportedError) as refused:
        platform_claim.parse(b"PADS" + MADE[4:])
    assert refused.value.message == "platform claim: want a TPM 2.0 and a header of 28 bytes, got 2 and 32"


@given(st.integers(0, 64), st.binary(max_size=4))
def test_same_bytes_or_refused(at: int, put: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    data = MADE[:at] + put + MADE[at + len(put) :]
    try:
        parsed = platform_claim.parse(data)
    except FormatError:
        return
    assert parsed.encode() == data


def test_another_tpm() -> None:
    """A claim of a TPM 1.2 is refused, and so is a malformed one."""
    with pytest.raises(UnsupportedError):
        platform_claim.parse(MADE[:4] + b"\1" + MADE[5:])
    with pytest.raises(FormatError) as refused:
        platform_claim.parse(b"none" + MADE[4:])
    assert (
        refused.value.message == "platform claim.magic at 0x0: want 0x53444150 or 0x32444150, got 0x656e6f6e"
    )
