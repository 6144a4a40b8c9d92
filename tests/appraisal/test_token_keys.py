"""A service's signing keys are read strictly: each is of one kind, and signs by that kind's algorithm."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from kluis.appraisal import token_keys
from kluis.errors import AuthenticityError, FormatError
from kluis.formats import b64
from tests.services.keyvault.world import AUTHORITY_KEY, jwks, public_jwk
from tests.services.web.issuer import NOW

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a key")])


def certificate(key: Any) -> bytes:
    """One that the key signed itself."""
    made = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    signed = made.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


def refused(document: dict[str, Any], **more: Any) -> str:
    """What is said of a document that is refused."""
    with pytest.raises((FormatError, AuthenticityError)) as error:
        token_keys.read(json.dumps(document).encode(), certified=False, **more)
    return error.value.message


def test_members_of_another_kind() -> None:
    """An algorithm that is no text, chains that are none, or too long."""
    assert refused(jwks(alg=256)) == "JWK.alg: want text, got another"
    for chain in ([], "MII", ["MII"] * 9):
        assert refused(jwks(x5c=chain)) == "JWK.x5c: want 1 to 8 certificates, got another"


@pytest.mark.parametrize(
    "key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())], ids=["ed", "k1"]
)
def test_keys_that_sign_no_tokens(key: Any) -> None:
    """A certificate for a key of another kind, or on another curve, gives none."""
    said = refused(jwks(x5c=[b64.encode(certificate(key))]))
    assert said == "JWK.x5c: want an RSA key, or one on P-256, P-384 or P-521, got another"


def test_rsa_keys_have_bounds() -> None:
    """One too short is refused, alone or in a certificate."""
    key = rsa.generate_private_key(65537, 1024)
    want = "JWK: want an RSA key of 2048 to 8192 bits, got 1024"
    assert refused(jwks(x5c=None, **public_jwk(key))) == want
    assert refused(jwks(x5c=[b64.encode(certificate(key))])) == want


def test_evidence_that_vouches_for_another_key() -> None:
    """A certificate counts only for the key that its evidence names."""
    spki = rsa.generate_private_key(65537, 2048).public_key()
    other = spki.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    said = refused(jwks(), vouched=lambda certificate: other)
    assert said.endswith("JWK.x5c: its evidence vouches for another key")
    own = AUTHORITY_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    document = json.dumps(jwks()).encode()
    assert list(token_keys.read(document, certified=True, vouched=lambda certificate: own)) == ["one"]


def test_a_signature_of_another_length() -> None:
    """An ECDSA signature is two numbers of the curve's size, not ASN.1, and not a byte more."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    trusted = token_keys.of_pem(public)
    for signature in (key.sign(b"said", ec.ECDSA(hashes.SHA256())), bytes(63), bytes(65), bytes(64)):
        with pytest.raises(AuthenticityError, match="is not signed by the key"):
            trusted.check("ES256", b"said", signature)
