"""JSON Web Keys: one key, in one encoding, and never a private one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from joserfc.jwk import ECKey, RSAKey

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.ietf import jose
from tests.keys import rsa_key
from tests.strategies import PROPERTY, mutations

KEYS = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "P-521": ec.generate_private_key(ec.SECP521R1()),
    "RSA": rsa_key(),
}


def jwk(name: str, **changes: Any) -> dict[str, Any]:
    """The public JWK of a key, as joserfc writes it, with members changed."""
    pem = KEYS[name].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    made = (RSAKey if name == "RSA" else ECKey).import_key(pem).as_dict(private=False)
    return {**made, **changes}


@pytest.mark.parametrize("name", KEYS)
def test_good(name: str) -> None:
    """A JWK is the key that another writer wrote; its usage members are ignored."""
    expected = KEYS[name].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    data = json.dumps(jwk(name, kid="1", use="enc")).encode()
    assert jose.parse_jwk(data, "key").spki == expected


X = jwk("P-384")["x"]


@pytest.mark.parametrize(
    ("name", "change", "error", "text", "code"),
    [
        ("P-384", {"d": "AA"}, FormatError, "key: want a public key, got a private one", "bad_type"),
        ("RSA", {"p": "AA"}, FormatError, "key: want a public key, got a private one", "bad_type"),
        ("P-384", {"kty": "OKP"}, UnsupportedError, "key.kty: want EC or RSA, got 'OKP'", "bad_type"),
        (
            "P-384",
            {"crv": "P-192"},
            UnsupportedError,
            "key.crv: want one of P-256, P-384, P-521, got 'P-192'",
            "bad_type",
        ),
        ("P-384", {"crv": "P-256"}, FormatError, "key.x: is 48 bytes, want 32 to 32", "bad_length"),
        (
            "P-384",
            {"x": X + "="},
            FormatError,
            "key.x: is not base64url, or not the one of its bytes",
            "bad_encoding",
        ),
        (
            "P-384",
            {"x": X + "A"},
            FormatError,
            "key.x: is not base64url, or not the one of its bytes",
            "bad_encoding",
        ),
        (
            "P-384",
            {"x": "+" + X[1:]},
            FormatError,
            "key.x: is not base64url, or not the one of its bytes",
            "bad_encoding",
        ),
        (
            "P-384",
            {"x": "\n" + X},
            FormatError,
            "key.x: is not base64url, or not the one of its bytes",
            "bad_encoding",
        ),
        (
            "P-384",
            {"x": "é"},
            FormatError,
            "key.x: is not base64url, or not the one of its bytes",
            "bad_encoding",
        ),
        ("P-384", {"x": ""}, FormatError, "key.x: is 0 bytes, want 48 to 48", "bad_length"),
        ("P-384", {"y": 5}, FormatError, "key.y: want text, got an integer", "bad_type"),
        ("RSA", {"e": "AAEAAQ"}, FormatError, "key: want numbers without leading zeros", "bad_encoding"),
        ("RSA", {"n": "AAEAAQ"}, FormatError, "key: want numbers without leading zeros", "bad_encoding"),
        ("RSA", {"e": "AQ" * 8}, FormatError, "key.e: is 12 bytes, want 1 to 8", "bad_length"),
    ],
)
def test_refused(name: str, change: dict[str, Any], error: type[FormatError], text: str, code: str) -> None:
    """Private members, other curves, and every second encoding of a coordinate are refused."""
    with pytest.raises(FormatError) as caught:
        jose.parse_jwk(json.dumps(jwk(name, **change)).encode(), "key")
    assert (type(caught.value), str(caught.value), caught.value.code) == (error, text, code)


@given(mutations(*(json.dumps(jwk(name)).encode() for name in KEYS)))
@PROPERTY
def test_only_our_errors(data: bytes) -> None:
    """Whatever is read is a key; nothing but our errors escapes."""
    try:
        key = jose.parse_jwk(data, "key")
    except FormatError:
        return
    assert key.spki
