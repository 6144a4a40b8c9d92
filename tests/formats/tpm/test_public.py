"""Public areas of TPM keys: fields and back, names, and keys as everybody else writes them."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.tpm import public
from kluis.formats.tpm.algorithm import ECDSA, RSASSA, HashId
from kluis.formats.tpm.attest import encode_sized
from kluis.formats.tpm.public import Attribute, EcPublic, Public, RsaPublic
from kluis.formats.x509 import parse_public_key
from tests.keys import rsa_key
from tests.strategies import PROPERTY, mutations
from tests.vectors import MISSING, Vector, found

FLAGS = Attribute.FIXED_TPM | Attribute.RESTRICTED | Attribute.SIGN
RSA_KEY = rsa_key().public_key()
EC_KEY = ec.generate_private_key(ec.SECP384R1()).public_key()
AREA = Public(
    name_hash=HashId.SHA256,
    attributes=FLAGS,
    policy=b"p" * 32,
    key=RsaPublic(
        scheme=RSASSA,
        hash=HashId.SHA256,
        bits=2048,
        exponent=0,
        modulus=RSA_KEY.public_numbers().n.to_bytes(256, "big"),
    ),
)
EC_AREA = Public(
    name_hash=HashId.SHA384,
    attributes=FLAGS,
    policy=b"",
    key=EcPublic(
        scheme=None,
        hash=None,
        curve=4,
        x=EC_KEY.public_numbers().x.to_bytes(48, "big"),
        y=EC_KEY.public_numbers().y.to_bytes(48, "big"),
    ),
)
REAL = [vector for vector in found("tpm") if "original" in vector and len(vector.part("original")) < 512]


@pytest.mark.parametrize(("area", "key"), [(AREA, RSA_KEY), (EC_AREA, EC_KEY)])
def test_fields(area: Public, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> None:
    """An area's fields come back, and its key is the one that others read."""
    assert public.parse(area.encode()) == area
    assert public.parse_sized(encode_sized(area.encode())) == area
    assert area.spki == key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_name() -> None:
    """A key's name is its hash's identifier and the hash of its area."""
    assert AREA.name == b"\x00\x0b" + hashlib.sha256(AREA.encode()).digest()


@pytest.mark.skipif(not REAL, reason=MISSING)
@pytest.mark.parametrize("vector", REAL, ids=lambda vector: vector.name)
def test_real(vector: Vector) -> None:
    """A real area has the recorded attributes, and the key that is recorded with it."""
    data = vector.part("original")
    area, recorded = public.parse(data), vector.meta["ak_public_area"]
    assert area.encode() == data
    assert area.attributes == int(recorded["attributes"], 16)
    assert area.spki == parse_public_key(vector.part("ak_pub"), "AK").spki


DATA, EC_DATA = AREA.encode(), EC_AREA.encode()
KEY_AT = DATA.index(b"p" * 32) + 32


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (bytes(1025), "is 1025 bytes", "too_large"),
        (b"\x00\x08" + DATA[2:], "type at 0x0: want 0x1 or 0x23, got 0x8", "bad_type"),
        (DATA[:2] + b"\x00\x12" + DATA[4:], "name_hash: SM3", "bad_type"),
        (DATA[:KEY_AT] + b"\x00\x06" + DATA[KEY_AT + 2 :], "symmetric: want none", "bad_type"),
        (DATA[: KEY_AT + 2] + b"\x00\x18" + DATA[KEY_AT + 4 :], "scheme: want one of", "bad_type"),
        (DATA[: KEY_AT + 6] + b"\x04\x00" + DATA[KEY_AT + 8 :], "modulus: is not of 1024 bits", "bad_length"),
        (
            EC_DATA.replace(b"\x00\x04\x00\x10\x00\x30", b"\x00\x09\x00\x10\x00\x30"),
            "curve: want",
            "bad_type",
        ),
        (
            EC_DATA.replace(b"\x00\x04\x00\x10\x00\x30", b"\x00\x04\x00\x20\x00\x30"),
            "kdf: want none",
            "bad_type",
        ),
        (
            EC_DATA.replace(b"\x00\x04\x00\x10\x00\x30", b"\x00\x05\x00\x10\x00\x30"),
            "want coordinates",
            "bad_length",
        ),
        (DATA + b"\0", "1 bytes after the end", "trailing_data"),
    ],
)
def test_refused(data: bytes, message: str, code: str) -> None:
    """Each error states what, where, and the expected and actual value."""
    with pytest.raises(FormatError, match=message) as caught:
        public.parse(data)
    assert caught.value.code == code


def test_sized_is_exact() -> None:
    """A TPM2B's size is its area's, no less and no more."""
    with pytest.raises(FormatError, match="1 bytes after the end"):
        public.parse_sized(encode_sized(DATA) + b"\0")
    with pytest.raises(FormatError, match="needs 2 bytes"):
        public.parse_sized(encode_sized(b""))
    with pytest.raises(UnsupportedError, match="hash 0x0099"):
        public.parse(DATA[:2] + b"\x00\x99" + DATA[4:])


def test_scheme_of_a_curve() -> None:
    """A key on a curve may be bound to ECDSA and a hash."""
    area = Public(
        name_hash=HashId.SHA256,
        attributes=FLAGS,
        policy=b"",
        key=EcPublic(scheme=ECDSA, hash=HashId.SHA256, curve=3, x=b"x" * 32, y=b"y" * 32),
    )
    assert public.parse(area.encode()) == area


@PROPERTY
@given(mutations(DATA, EC_DATA))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written as the same bytes; only our errors escape."""
    try:
        parsed = public.parse(data)
    except FormatError:
        return
    assert parsed.encode() == data
