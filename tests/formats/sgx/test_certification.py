"""Certification data: how a quote names its platform's certificate."""

from __future__ import annotations

import pytest

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.sgx import certification
from kluis.formats.sgx.certification import CertificationType as Type

TAIL = bytes(range(16)) + (300).to_bytes(2, "little") + b"\5\6"
SIZES = [(Type.PPID, 16), (Type.PPID_RSA2048, 256), (Type.PPID_RSA3072, 384), (Type.PPID_RSA3072, 256)]


@pytest.mark.parametrize(("kind", "size"), SIZES, ids=str)
def test_names_a_certificate(kind: Type, size: int) -> None:
    """Types 1 to 3 name the certificate to ask for, and write back the same bytes."""
    data = bytes([7]) * size + TAIL
    read = certification.pck_id(kind, data)
    assert read is not None
    assert (read.ppid, read.cpusvn, read.pcesvn, read.pceid) == (b"\7" * size, TAIL[:16], 300, b"\5\6")
    assert read.encode() == data


@pytest.mark.parametrize("kind", [Type.PCK_LEAF, Type.PCK_CHAIN, Type.QE_REPORT, Type.PLATFORM_MANIFEST])
def test_names_none(kind: Type) -> None:
    """The other types name nothing."""
    assert certification.pck_id(kind, b"") is None


def test_other_sizes() -> None:
    """A name of another size is refused."""
    with pytest.raises(FormatError) as caught:
        certification.pck_id(Type.PPID_RSA3072, bytes(403))
    assert str(caught.value) == "certification data of type 3: want 404 or 276 bytes, got 403"


@pytest.mark.parametrize("value", [0, 8, 65535])
def test_unknown_types(value: int) -> None:
    """A type outside the seven is unsupported."""
    with pytest.raises(UnsupportedError) as caught:
        certification.kind(value, "it", 0x10)
    assert str(caught.value) == f"it.certification_type at 0x10: want 1 to 7, got {value}"
