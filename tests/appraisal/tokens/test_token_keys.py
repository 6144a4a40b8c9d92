"""A service's signing keys are read strictly: each is of one kind, and signs by that kind's algorithm."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from kluis.appraisal.tokens import token_keys
from kluis.errors import AuthenticityError, FormatError
from kluis.formats.encoding import b64
from kluis.formats.x509 import write_pem
from tests.keys import rsa_key
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
    """An algorithm that is not text, and malformed or overlong chains, are refused."""
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
    """A short one is refused, bare or in a certificate."""
    key = rsa_key(bits=1024)
    want = "JWK: want an RSA key of 2048 to 8192 bits, got 1024"
    assert refused(jwks(x5c=None, **public_jwk(key))) == want
    assert refused(jwks(x5c=[b64.encode(certificate(key))])) == want


def test_evidence_that_vouches_for_another_key() -> None:
    """A certificate counts only for the key that its evidence names."""
    spki = rsa_key(3).public_key()
    other = spki.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    said = refused(jwks(), vouched=lambda certificate: other)
    assert said.endswith("JWK.x5c: its evidence is for another key")
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


def test_a_signature_written_shorter_or_longer() -> None:
    """A number of a signature that begins with zeros has them, and no more of them."""
    key = ec.generate_private_key(ec.SECP256R1())
    trusted = token_keys.TrustedKey("k", key.public_key(), None, None)
    while True:
        r, s = decode_dss_signature(key.sign(b"said", ec.ECDSA(hashes.SHA256())))
        if s < 1 << 248:
            break
    first = r.to_bytes(32)
    trusted.check("ES256", b"said", first + s.to_bytes(32))
    for size in (31, 33):
        with pytest.raises(AuthenticityError, match="is not signed by the key 'k'"):
            trusted.check("ES256", b"said", first + s.to_bytes(size))


def test_a_key_that_signs_by_nothing() -> None:
    """A key whose document names another kind's algorithm signs by none."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(AuthenticityError, match=r"^token alg: want none of this key, got 'ES256'$"):
        token_keys.TrustedKey("k", key, None, "RS256").check("ES256", b"", b"")


def _listed(*entries: Any) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


def _entry(kid: str = "one", **more: Any) -> dict[str, Any]:
    (entry,) = jwks()["keys"]
    return {**entry, "kid": kid, **more}


BARE = {"kty": "RSA", "kid": "bare", **public_jwk(AUTHORITY_KEY)}


@pytest.mark.parametrize("document", [b"[]", b"1", b"{}", _listed(), b'{"keys": {"a": 1}}', b'{"keys": "a"}'])
def test_what_lists_no_keys(document: bytes) -> None:
    """A document of keys is an object with a list of them."""
    with pytest.raises(FormatError, match=r"^JWKS: want 1 to 32 keys, got another(?m:$)") as caught:
        token_keys.read(document, certified=False)
    assert (caught.value.hint or "").startswith("the service publishes its keys")


@pytest.mark.parametrize("entry", [1, None, "one", ["one"]])
def test_what_is_no_key(entry: object) -> None:
    """Each key is an object."""
    with pytest.raises(FormatError, match=r"^JWKS: want objects as keys, got another$"):
        token_keys.read(_listed(_entry(), entry), certified=False)


def test_as_many_keys_as_there_may_be() -> None:
    """Up to 32 keys are read, each by its name of up to 256 characters."""
    names = [*map(str, range(31)), "x" * 256]
    assert list(token_keys.read(_listed(*map(_entry, names)), certified=True)) == names
    with pytest.raises(FormatError, match=r"^JWKS: want 1 to 32 keys"):
        token_keys.read(_listed(*map(_entry, map(str, range(33)))), certified=False)
    for name in ("", "x" * 257):
        with pytest.raises(FormatError, match=r"^JWK: want kid and kty"):
            token_keys.read(_listed(_entry(name)), certified=False)


@pytest.mark.parametrize("name", ["d", "p", "q", "k"])
def test_private_keys(name: str) -> None:
    """No part of a private key, nor a secret, may be in a document of public ones."""
    with pytest.raises(FormatError, match=r"^JWK: want a public key, got a private one$"):
        token_keys.read(_listed({**BARE, name: "AAAA"}), certified=False)


def test_the_first_of_a_chain() -> None:
    """A key's certificate is the first of up to eight."""
    own = b64.encode(certificate(AUTHORITY_KEY))
    other = b64.encode(certificate(rsa_key(3)))
    found = token_keys.read(_listed(_entry(x5c=[own, *[other] * 7])), certified=True)["one"]
    assert found.certificate == certificate(AUTHORITY_KEY)
    assert found.key.public_numbers() == AUTHORITY_KEY.public_key().public_numbers()


def _vouching(certificate: bytes) -> bytes:
    """Evidence that holds for a certificate of the authority's own key, and for no other."""
    own = AUTHORITY_KEY.public_key()
    if x509.load_der_x509_certificate(certificate).public_key() != own:
        raise AuthenticityError(f"certificate of {len(certificate)} bytes: not vouched for")
    return own.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_keys_that_nobody_vouches_for() -> None:
    """A key without evidence, or with invalid evidence, is left out; if none is left, the first error is
    reported.
    """
    stranger = b64.encode(certificate(ec.generate_private_key(ec.SECP256R1())))
    wrong = {"kty": "EC", "kid": "wrong", "x5c": [stranger]}
    for entries in ((BARE, _entry()), (_entry(), BARE), (wrong, BARE, _entry()), (_entry(), wrong)):
        found = token_keys.read(_listed(*entries), certified=False, vouched=_vouching)
        assert list(found) == ["one"]
    for entries, why in (
        ((BARE,), "JWK.x5c: want one, got none"),
        ((BARE, wrong), "JWK.x5c: want one, got none"),
        ((wrong, BARE), f"certificate of {len(b64.decode(stranger, 'it'))} bytes: not vouched for"),
    ):
        with pytest.raises(AuthenticityError) as caught:
            token_keys.read(_listed(*entries), certified=False, vouched=_vouching)
        assert caught.value.message == f"no key of the authority is its enclave's own: {why}"


def test_one_certificate_in_pem() -> None:
    """A file contains one certificate, with any white space around it."""
    der = certificate(AUTHORITY_KEY)
    pem = write_pem(der)
    for data in (pem, b"\n  " + pem, pem.rstrip(), pem + b"\n\n"):
        found = token_keys.of_pem(data)
        assert (found.kid, found.certificate) == ("", der)
    with pytest.raises(FormatError):
        token_keys.of_pem(pem + pem)


def _of_size(bits: int) -> dict[str, Any]:
    n = (1 << bits) - 1
    return {**BARE, "n": b64.encode_url(n.to_bytes((bits + 7) // 8))}


def test_the_least_and_the_most_bits() -> None:
    """RSA keys have 2048 to 8192 bits, in a JWK as in PEM."""
    for bits in (2048, 3072, 8192):
        (found,) = token_keys.read(_listed(_of_size(bits)), certified=False).values()
        assert found.key.key_size == bits
    for bits in (2047, 8193, 8200):
        with pytest.raises(FormatError):
            token_keys.read(_listed(_of_size(bits)), certified=False)
        key = rsa.RSAPublicNumbers(65537, (1 << bits) - 1).public_key()
        with pytest.raises(FormatError, match=f"want an RSA key of 2048 to 8192 bits, got {bits}"):
            token_keys.of_pem(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _point(key: ec.EllipticCurvePrivateKey, crv: object, size: int) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    x, y = (b64.encode_url(each.to_bytes(size)) for each in (numbers.x, numbers.y))
    return {"kty": "EC", "kid": "one", "crv": crv, "x": x, "y": y}


@pytest.mark.parametrize(
    ("crv", "curve", "size"),
    [("P-256", ec.SECP256R1(), 32), ("P-384", ec.SECP384R1(), 48), ("P-521", ec.SECP521R1(), 66)],
)
def test_points_of_each_curve(crv: str, curve: ec.EllipticCurve, size: int) -> None:
    """A JWK's curve is its point's, and is named in a text."""
    key = ec.generate_private_key(curve)
    found = token_keys.read(_listed(_point(key, crv, size)), certified=False)["one"]
    assert found.key.public_numbers() == key.public_key().public_numbers()
    for entry in (
        _point(key, [crv], size),
        _point(key, {}, size),
        _point(key, None, size),
        _point(key, "secp256k1", size),
        _point(key, crv, 99),
        {"kty": "EC", "kid": "one"},
        {"kty": "RSA", "kid": "one"},
        {**_point(key, crv, size), "kty": "RSA"},
    ):
        with pytest.raises(FormatError):
            token_keys.read(_listed(entry), certified=False)


def test_two_keys_in_one() -> None:
    """Members and certificate are of one key: another one's, greater or less, is refused."""
    keys = [rsa_key(3), rsa_key(4)]
    for one, other in (keys, reversed(keys)):
        entry = {"kid": "one", **public_jwk(one), "x5c": [b64.encode(certificate(other))]}
        with pytest.raises(FormatError, match=r"^JWK: want one key in it and its x5c, got two or none$"):
            token_keys.read(_listed(entry), certified=False)
        good = {**entry, "x5c": [b64.encode(certificate(one))]}
        assert list(token_keys.read(_listed(good), certified=True)) == ["one"]


@pytest.mark.parametrize("more", [{"kid": 1}, {"kid": None}, {"kid": ["k"]}, {"kty": "oct"}, {"kty": None}])
def test_keys_without_name_or_kind(more: dict[str, Any]) -> None:
    """A key has a name in a text, and is RSA's or a curve's."""
    with pytest.raises(FormatError, match=r"^JWK: want kid and kty, RSA or EC, got another$"):
        token_keys.read(_listed({**BARE, **more}), certified=False)


def test_certificates_where_they_are_wanted() -> None:
    """A key without a certificate is accepted if none is required; a name belongs to one key only."""
    assert list(token_keys.read(_listed(BARE), certified=False)) == ["bare"]
    with pytest.raises(FormatError, match=r"^JWK\.x5c: want one, got none$"):
        token_keys.read(_listed(BARE), certified=True)
    with pytest.raises(FormatError, match=r"^JWKS: want each kid once, got 'bare' twice$"):
        token_keys.read(_listed(BARE, BARE), certified=False)


def _large(size: int) -> bytes:
    """A certificate with so many bytes of an extension that nobody knows."""
    made = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).serial_number(1)
    made = made.public_key(AUTHORITY_KEY.public_key()).not_valid_before(NOW)
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(size))
    made = made.not_valid_after(NOW + timedelta(days=1)).add_extension(extension, critical=False)
    return made.sign(AUTHORITY_KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def test_how_large_documents_are() -> None:
    """A document has at most 256 KiB, is eight deep, and its certificates have 32 KiB each."""
    assert token_keys.read(_listed(_entry(x5c=[b64.encode(_large(31_000))])), certified=True)
    with pytest.raises(FormatError, match=r"^JWK\.x5c: want at most 32768 bytes, got more$"):
        token_keys.read(_listed(_entry(x5c=[b64.encode(_large(33_000))])), certified=True)
    room = token_keys.MAX_JWKS - len(_listed({**BARE, "x": ""}))
    assert token_keys.read(_listed({**BARE, "note": "n" * (room - 3)}), certified=False)
    with pytest.raises(FormatError):
        token_keys.read(_listed({**BARE, "note": "n" * (room + 4)}), certified=False)
    deep: Any = 1
    for _ in range(5):
        deep = [deep]
    assert token_keys.read(_listed({**BARE, "note": deep}), certified=False)
    with pytest.raises(FormatError):
        token_keys.read(_listed({**BARE, "note": [deep]}), certified=False)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (_entry(kty="EC"), "JWK.kty: want its key's, got EC"),
        (_entry(x5c=["AAAA"]), "JWK.x5c: want a certificate, got another"),
        (_entry(x5c=[b64.encode(b"\x30\x82\x00\x00")]), "JWK.x5c: want a certificate, got another"),
        (
            {"kty": "EC", "kid": "one", "crv": "P-256", "x": "AQ", "y": "AQ"},
            "JWK: its members make no public key",
        ),
        ({**BARE, "e": "AA"}, "JWK: its members make no public key"),
    ],
)
def test_members_that_make_no_key(entry: dict[str, Any], message: str) -> None:
    """A certificate of another kind of key, or a malformed one; numbers of no key."""
    with pytest.raises(FormatError) as caught:
        token_keys.read(_listed(entry), certified=False)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("more", "signs"),
    [
        ({}, True),
        ({"use": "sig"}, True),
        ({"use": "sig", "key_ops": ["verify"]}, True),
        ({"key_ops": ["wrapKey", "verify"]}, True),
        ({"use": "enc"}, False),
        ({"use": "use"}, False),
        ({"use": None}, False),
        ({"key_ops": ["encrypt"]}, False),
        ({"key_ops": []}, False),
        ({"key_ops": "verify"}, False),
        ({"use": "enc", "key_ops": ["verify"]}, False),
    ],
)
def test_what_a_key_is_for(more: dict[str, Any], signs: bool) -> None:
    """A key that its authority does not sign with verifies nothing."""
    (found,) = token_keys.read(_listed({**BARE, **more}), certified=False).values()
    assert bool(found.algorithms) is signs


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_both_paddings(algorithm: str) -> None:
    """An RSA key's signature counts in the padding that its algorithm names, and in no other."""
    key = rsa_key(3)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    own, other = (padding.PKCS1v15(), pss) if algorithm == "RS256" else (pss, padding.PKCS1v15())
    trusted = token_keys.TrustedKey("k", key.public_key(), None, None)
    trusted.check(algorithm, b"signed", key.sign(b"signed", own, hashes.SHA256()))
    with pytest.raises(AuthenticityError):
        trusted.check(algorithm, b"signed", key.sign(b"signed", other, hashes.SHA256()))
