"""Extended key usages: identifiers, whole and not too many."""

from __future__ import annotations

import pytest
from cryptography import x509

from kluis.errors import FormatError
from kluis.formats.x509.extended_usage import read_usages


def usage(*dotted: str) -> bytes:
    """The extension's value, as ``cryptography`` writes it."""
    return x509.ExtendedKeyUsage(list(map(x509.ObjectIdentifier, dotted))).public_bytes()


def test_read() -> None:
    """They are returned in their order."""
    for stated in (("1.3.6.1.5.5.7.3.9",), ("2.23.133.8.3", "1.3.6.1.4.1.311.76.59.1.2")):
        assert read_usages(usage(*stated), "leaf") == stated
    assert len(read_usages(usage(*(f"1.3.6.1.{n}" for n in range(16))), "leaf")) == 16
    assert read_usages(b"\x30\x00", "leaf") == ()


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (usage(*(f"1.3.6.1.{n}" for n in range(17))), "leaf: more than 16 usages", "too_large"),
        (b"\x30\x00\x00", "leaf: bytes after the extended key usage", "trailing_data"),
        (b"\x30\x02\x05\x00", "leaf at 0x2: want tag 0x06, got 0x05", "bad_type"),
        (b"\x30\x02\x06\x00", "object identifier: is cut short, or too long", "bad_encoding"),
    ],
)
def test_refused(data: bytes, message: str, code: str) -> None:
    """What is no such sequence, or too long, is refused."""
    with pytest.raises(FormatError) as refused:
        read_usages(data, "leaf")
    assert (refused.value.message, refused.value.code) == (message, code)
