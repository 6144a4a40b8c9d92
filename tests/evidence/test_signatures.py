"""Signature checks raise; they never answer."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.authority import issuing
from kluis.errors import AuthenticityError
from kluis.evidence import TrustAnchors, signatures
from kluis.evidence.context import Context
from kluis.formats.x509 import Scheme
from tests.evidence.forge import key

HIGH = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def _check(
    signature: bytes, data: bytes, own: EllipticCurvePrivateKey, scheme: Scheme = Scheme.ES256
) -> None:
    spki = own.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    context = Context(TrustAnchors.shipped())
    signatures.check_raw(signature, data, spki, scheme, "thing", context=context, code="sig")


@pytest.mark.parametrize(
    "signature",
    [bytes(64), b"\xff" * 64, HIGH.to_bytes(32, "big") * 2, bytes(32) + b"\1" * 32],
    ids=["zeros", "ones", "the group's order", "r is zero"],
)
def test_garbage_is_refused(signature: bytes) -> None:
    """Signatures outside the curve's range are refused like any other that does not fit."""
    with pytest.raises(AuthenticityError) as caught:
        _check(signature, b"data", key())
    assert (str(caught.value), caught.value.code) == ("thing: is not signed by the key it should be", "sig")


def test_good() -> None:
    """A signature of the key over the bytes passes, and over other bytes does not."""
    own = key()
    signature = issuing.sign(own, b"data")
    _check(signature, b"data", own)
    with pytest.raises(AuthenticityError):
        _check(signature, b"Data", own)


def test_a_key_of_another_kind() -> None:
    """A key that the scheme cannot use is refused, and never tried another way."""
    with pytest.raises(AuthenticityError, match=r"^thing: want a key for RSASSA-PSS with SHA-384, got"):
        _check(bytes(64), b"data", key(), scheme=Scheme.PS384)


def test_another_length() -> None:
    """A raw signature has the length of its curve, and no other."""
    with pytest.raises(AuthenticityError, match=r"^thing: want a signature of 64 bytes, got 96$"):
        _check(bytes(96), b"data", key())


@pytest.mark.parametrize(
    ("scheme", "curve", "hashed", "size"),
    [
        (Scheme.ES256, ec.SECP256R1(), hashes.SHA256(), 32),
        (Scheme.ES384, ec.SECP384R1(), hashes.SHA384(), 48),
        (Scheme.ES512, ec.SECP521R1(), hashes.SHA512(), 66),
    ],
)
def test_raw_signatures(
    scheme: Scheme, curve: ec.EllipticCurve, hashed: hashes.HashAlgorithm, size: int
) -> None:
    """A raw signature is two numbers of the size of its curve's field."""
    own = ec.generate_private_key(curve)
    r, s = decode_dss_signature(own.sign(b"data", ec.ECDSA(hashed)))
    raw = r.to_bytes(size) + s.to_bytes(size)
    _check(raw, b"data", own, scheme)
    for wrong in (raw[:-1], raw + b"\0", raw[1:], b"\0" + raw, b""):
        with pytest.raises(AuthenticityError, match=f"want a signature of {2 * size} bytes"):
            _check(wrong, b"data", own, scheme)
