"""TPM signatures: fields and back."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.tpm import signature
from kluis.formats.tpm.algorithm import RSAPSS, RSASSA, HashId
from kluis.formats.tpm.signature import EcdsaSignature, RsaSignature
from tests.strategies import PROPERTY, mutations
from tests.vectors import MISSING, Vector, found

PSS = RsaSignature(RSAPSS, HashId.SHA384, b"v" * 256)
EC = EcdsaSignature(HashId.SHA256, b"r" * 32, b"s" * 31)
REAL = [vector for vector in found("tpm") if "quote_sig" in vector]


@pytest.mark.parametrize("value", [PSS, EC, RsaSignature(RSASSA, HashId.SHA1, b"")])
def test_fields(value: signature.Signature) -> None:
    """A signature's fields come back."""
    assert signature.parse(value.encode()) == value


@pytest.mark.skipif(not REAL, reason=MISSING)
@pytest.mark.parametrize("vector", REAL, ids=lambda vector: vector.name)
def test_real(vector: Vector) -> None:
    """Real signatures name the recorded scheme and hash, and are written as the same bytes."""
    data = vector.part("quote_sig")
    parsed = signature.parse(data)
    assert parsed.encode() == data
    if vector.known:
        assert f"{parsed.hash:#x}" == vector.known["hash_alg"]
        assert isinstance(parsed, EcdsaSignature) == (vector.known["sig_alg"] == "0x18")


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (b"\x00\x05" + PSS.encode()[2:], "scheme at 0x0: want 0x14, 0x16 or 0x18, got 0x5", "bad_type"),
        (PSS.encode() + b"\0", "1 bytes after the end", "trailing_data"),
        (PSS.encode()[:-1], "needs 256 bytes, 255 left", "truncated"),
        (RsaSignature(RSASSA, HashId.SHA256, bytes(513)).encode(), "value: is 513 bytes", "bad_length"),
        (EcdsaSignature(HashId.SHA256, bytes(67), b"").encode(), "r: is 67 bytes", "bad_length"),
    ],
)
def test_refused(data: bytes, message: str, code: str) -> None:
    """Each error states what, where, and the expected and actual value."""
    with pytest.raises(FormatError, match=message) as caught:
        signature.parse(data)
    assert caught.value.code == code


def test_unknown_hash() -> None:
    """A hash nobody knows is unsupported."""
    with pytest.raises(UnsupportedError, match="hash 0x0001; supported"):
        signature.parse(b"\x00\x14\x00\x01" + PSS.encode()[4:])


def test_raw() -> None:
    """Bare bytes are RSASSA with SHA-256 by the transport's rule, of a length that a key has."""
    assert signature.raw_rsa(bytes(256)) == RsaSignature(RSASSA, HashId.SHA256, bytes(256))
    with pytest.raises(FormatError, match="raw RSA is 262 bytes"):
        signature.raw_rsa(bytes(262))


@PROPERTY
@given(mutations(PSS.encode(), EC.encode()))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written as the same bytes; only our errors escape."""
    try:
        parsed = signature.parse(data)
    except FormatError:
        return
    assert parsed.encode() == data


def test_either() -> None:
    """Both forms of one transport are distinguished only by length, without trial."""
    assert signature.parse_either(PSS.encode()) == PSS
    assert signature.parse_either(bytes(384)) == RsaSignature(RSASSA, HashId.SHA256, bytes(384))
    with pytest.raises(FormatError):
        signature.parse_either(bytes(255))
