"""Environment assertions: each step of the check refuses what breaks only it."""

from __future__ import annotations

import hmac
import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from kluis.appraisal.tokens import signed_claims
from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError
from kluis.formats.encoding import b64
from kluis.services.keyvault.release import recipient
from kluis.services.keyvault.release.keyring import Keyring
from kluis.services.keyvault.vault.authorities import Pinned
from tests.keys import rsa_key
from tests.services.keyvault.world import (
    AUTHORITY,
    AUTHORITY_KEY,
    CERTIFICATE,
    ENVIRONMENT,
    OTHER_KEY,
    PINNED,
    certificate,
    claims,
    jwks,
    public_jwk,
    sign,
)
from tests.services.web.issuer import NOW

AT = int(NOW.timestamp())


def ring(authority: Pinned = PINNED) -> Keyring:
    """The keys of one authority, pinned."""
    return Keyring((authority,), no_fetch, lambda quote: None, life_seconds=3600, refetch_seconds=30)


def no_fetch(url: str) -> bytes:
    """Nothing is fetched."""
    raise AssertionError(url)


RING = ring()


def refused(kind: type[KluisError], token: str, keyring: Keyring = RING) -> str:
    """Check a token that does not hold: the message."""
    with pytest.raises(kind) as error:
        signed_claims.check(token, keyring, NOW)
    assert type(error.value) is kind
    return error.value.message


def test_a_token_that_holds() -> None:
    """The claims of a token whose authority signed it, by any spelling of the authority."""
    for issuer in (AUTHORITY, f"{AUTHORITY}/", AUTHORITY.upper().replace("HTTPS", "https")):
        found = signed_claims.check(sign(claims(iss=issuer)), RING, NOW)
        assert found.issuer == AUTHORITY
        assert found.claims["iss"] == issuer


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_algorithms_of_rsa(algorithm: str) -> None:
    """Each algorithm of an RSA key holds."""
    assert signed_claims.check(sign(claims(), {"alg": algorithm}), RING, NOW)


@pytest.mark.parametrize(
    ("algorithm", "curve"), [("ES256", ec.SECP256R1()), ("ES384", ec.SECP384R1()), ("ES512", ec.SECP521R1())]
)
def test_algorithms_of_curves(algorithm: str, curve: ec.EllipticCurve) -> None:
    """A key on a curve signs by the curve's own algorithm, and by no other."""
    key = ec.generate_private_key(curve)
    entry = {"keys": [{"kid": "one", "kty": "EC", "x5c": [b64.encode(certificate(key))]}]}
    keyring = ring(Pinned(AUTHORITY, json.dumps(entry)))
    assert signed_claims.check(sign(claims(), {"alg": algorithm}, key), keyring, NOW)
    for other in {"ES256", "ES384", "ES512", "RS256", "HS256", "none"} - {algorithm}:
        message = refused(AuthenticityError, sign(claims(), {"alg": other}, key), keyring)
        assert message == f"token alg: want {algorithm}, got {other!a}"


def test_step_1_shape() -> None:
    """A token is three parts of canonical base64url, JSON objects, bounded."""
    good = sign(claims())
    head, body, signature = good.split(".")
    shape = "token: want three parts, at most 131072 bytes, got another"
    for wrong in ("", "a", "a.b", f"{good}.x", "a" * 200_000, f"{'a' * 40_000}.{body}.{signature}"):
        assert refused(FormatError, wrong) == shape
    for wrong in (
        f"{head}=.{body}.{signature}",
        f"{head} .{body}.{signature}",
        f"{head}.{body}+.{signature}",
    ):
        assert refused(FormatError, wrong).endswith("is not base64url, or not the one of its bytes")
    for text in (b"[]", b"5", b"null"):
        assert refused(FormatError, f"{head}.{b64.encode_url(text)}.{signature}") == (
            "token claims: want an object, got another"
        )
    for text in (b"", b"{", b"\xff", b"[" * 50_000, b'{"a":' * 15_000):
        assert refused(FormatError, f"{head}.{b64.encode_url(text)}.{signature}") == (
            "token claims: want JSON, got another"
        )


@pytest.mark.parametrize(
    "header",
    [
        {"alg": None},
        {"kid": None},
        {"alg": 5},
        {"kid": 5},
        {"crit": ["exp"]},
        {"b64": False},
        {"kid": ["one"]},
    ],
)
def test_step_2_header(header: dict[str, Any]) -> None:
    """The header names algorithm and key, and nothing that must be understood."""
    assert refused(FormatError, sign(claims(), header)) == (
        "token header: want alg and kid, without crit, got another"
    )


@pytest.mark.parametrize("issuer", [None, 5, "attest.example", "http://attest.example"])
def test_step_3_an_issuer_that_is_none(issuer: Any) -> None:
    """An issuer is an https URL."""
    assert refused(FormatError, sign(claims(iss=issuer))).startswith("authority: want an https URL, got")


def test_step_3_whose_key() -> None:
    """The key is the authority's, by the name that the header gives."""
    assert refused(AuthenticityError, sign(claims(iss="https://evil.example"))) == (
        "token iss: want one of this vault's authorities, got 'https://evil.example'"
    )
    assert refused(AuthenticityError, sign(claims(), {"kid": "two"})) == (
        "token kid: want a key of https://attest.example, got 'two'"
    )


def test_step_3_keys_of_others() -> None:
    """A header's jku, x5c or jwk of somebody else's is refused, even where the authority signed it."""
    assert refused(AuthenticityError, sign(claims(), {"jku": "https://evil.example/certs"})) == (
        "token jku: want one of https://attest.example, got https://evil.example/certs"
    )
    foreign = [b64.encode(certificate(OTHER_KEY))]
    for wrong in (foreign, [], "x"):
        assert refused(AuthenticityError, sign(claims(), {"x5c": wrong})) == (
            "token x5c: want the certificate of the authority's key, got another"
        )
    assert refused(AuthenticityError, sign(claims(), {"jwk": public_jwk(OTHER_KEY)})) == (
        "token jwk: want none, got one"
    )
    own = {"x5c": [b64.encode(CERTIFICATE)], "jku": f"{AUTHORITY}/certs"}
    assert signed_claims.check(sign(claims(), own), RING, NOW)


def test_step_3_a_forger_with_keys_in_the_header() -> None:
    """A key sent in the header is not used for its own signature."""
    token = sign(claims(), {"jku": f"{AUTHORITY}/certs"}, OTHER_KEY)
    assert refused(AuthenticityError, token) == "token: is not signed by the key 'one'"


def test_step_4_signature() -> None:
    """One changed bit anywhere, and no one signed it."""
    good = sign(claims())
    head, body, signature = good.split(".")
    message = "token: is not signed by the key 'one'"
    other = b64.encode_url(json.dumps(claims(jti="x")).encode())
    assert refused(AuthenticityError, f"{head}.{other}.{signature}") == message
    raw = bytearray(b64.decode_url(signature, "signature"))
    raw[7] ^= 1
    assert refused(AuthenticityError, f"{head}.{body}.{b64.encode_url(bytes(raw))}") == message
    assert refused(AuthenticityError, f"{head}.{body}.") == message


def test_step_4_alg_none() -> None:
    """A token that nobody signed is refused, with a signature or without."""
    for spelling in ("none", "None", "NONE", ""):
        token = sign(claims(), {"alg": spelling})
        for each in (token, token.rpartition(".")[0] + "."):
            assert refused(AuthenticityError, each) == (
                f"token alg: want RS256 or RS384 or RS512 or PS256 or PS384 or PS512, got {spelling!a}"
            )


def test_step_4_hmac_with_the_public_key() -> None:
    """The public key is no secret to sign by: RFC 8725's first attack."""
    spki = AUTHORITY_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (spki, spki.strip(), CERTIFICATE):
        signed = sign(claims(), {"alg": "HS256"}).rpartition(".")[0]
        forged = f"{signed}.{b64.encode_url(hmac.digest(secret, signed.encode(), 'sha256'))}"
        assert refused(AuthenticityError, forged) == (
            "token alg: want RS256 or RS384 or RS512 or PS256 or PS384 or PS512, got 'HS256'"
        )


def test_step_4_a_key_that_names_its_algorithm() -> None:
    """A JWK's own alg is the only one that its key signs by."""
    keyring = ring(Pinned(AUTHORITY, json.dumps(jwks(alg="RS256"))))
    assert signed_claims.check(sign(claims()), keyring, NOW)
    assert refused(AuthenticityError, sign(claims(), {"alg": "PS256"}), keyring) == (
        "token alg: want RS256, got 'PS256'"
    )


def test_step_5_time() -> None:
    """A token holds until its end, and from a minute before its beginning; without an end it does not."""
    assert refused(FreshnessError, sign(claims(exp=AT))) == f"token exp: want one after {AT}, got {AT}"
    assert (
        refused(FreshnessError, sign(claims(nbf=AT + 61)))
        == f"token nbf: want one before {AT}, got {AT + 61}"
    )
    assert signed_claims.check(sign(claims(exp=AT + 1, nbf=AT + 60)), RING, NOW)
    assert signed_claims.check(sign(claims(nbf=None)), RING, NOW)
    for wrong in (None, "soon", True, 1e300):
        assert refused(FormatError, sign(claims(exp=wrong))) == (
            "token exp: want a time in whole seconds, got another"
        )
    old = sign(claims())
    with pytest.raises(FreshnessError):
        signed_claims.check(old, RING, NOW + timedelta(hours=8))


def test_the_first_key_for_encryption() -> None:
    """The environment's key is the first RSA key for encrypting, however that is said."""
    signing = public_jwk(OTHER_KEY, kid="sign", key_ops=["sign"])
    curve = {"kty": "EC", "kid": "ec", "key_ops": ["encrypt"]}
    for mark in ({"use": "enc"}, {"key_use": "enc"}, {"key_ops": ["wrapKey", "encrypt"]}):
        keys = [
            signing,
            curve,
            public_jwk(ENVIRONMENT, kid="mine", **mark),
            public_jwk(OTHER_KEY, kid="x", **mark),
        ]
        found = recipient.recipient({"x-ms-runtime": {"keys": keys}})
        assert found.kid == "mine"
        assert found.key.public_numbers() == ENVIRONMENT.public_key().public_numbers()


def test_a_key_in_a_certificate() -> None:
    """The environment's key may come in a certificate."""
    entry = {"kty": "RSA", "kid": "c", "use": "enc", "x5c": [b64.encode(certificate(ENVIRONMENT))]}
    found = recipient.recipient({"x-ms-runtime": {"keys": [entry]}})
    assert found.key.public_numbers() == ENVIRONMENT.public_key().public_numbers()


EVEN = b64.encode_url(b"\xff" * 255 + b"\0")
SMALL = public_jwk(rsa_key(bits=1024), kid="k", use="enc")
GOOD = public_jwk(ENVIRONMENT, kid="k", use="enc")


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        (None, "x-ms-runtime.keys: want a list, got none"),
        ({"keys": {}}, "x-ms-runtime.keys: want a list, got none"),
        ({"keys": []}, "x-ms-runtime.keys: want an RSA key for use enc, or with key_ops encrypt, got none"),
        (
            {"keys": [5, None, "x", {}]},
            "x-ms-runtime.keys: want an RSA key for use enc, or with key_ops encrypt, got none",
        ),
        *[
            (
                {"keys": [{**GOOD, "use": None, "key_ops": wrong}]},
                "x-ms-runtime.keys: want an RSA key for use enc, or with key_ops encrypt, got none",
            )
            for wrong in ("encrypt", 5, {"encrypt": 1}, [["encrypt"]])
        ],
        *[
            (
                {"keys": [{"kty": "RSA", "kid": "k", "use": "enc", "x5c": wrong}]},
                "x-ms-runtime.keys.x5c: want base64url, got nothing",
            )
            for wrong in ([], "AAAA", 5, {})
        ],
        *[
            (
                {"keys": [{**GOOD, "kid": wrong}]},
                "x-ms-runtime.keys: want a kid of the key for encryption, got none",
            )
            for wrong in ("", "k" * 257, 5)
        ],
        ({"keys": [{**GOOD, "e": "AQAAAAA"}]}, "x-ms-runtime.keys.e: want 3 to 32 bits, got another"),
        (
            {"keys": [{**GOOD, "kid": None}]},
            "x-ms-runtime.keys: want a kid of the key for encryption, got none",
        ),
        ({"keys": [{**GOOD, "e": "AQ"}]}, "x-ms-runtime.keys.e: want 3 to 32 bits, got another"),
        ({"keys": [{**GOOD, "e": "Ag"}]}, "x-ms-runtime.keys.e: want 3 to 32 bits, got another"),
        ({"keys": [{**GOOD, "n": "AA"}]}, "x-ms-runtime.keys: want an RSA key, got another"),
        ({"keys": [{**GOOD, "n": 5}]}, "x-ms-runtime.keys.n: want base64url, got something else"),
        ({"keys": [{**GOOD, "n": EVEN}]}, "x-ms-runtime.keys.n: want an odd number, got an even one"),
        ({"keys": [SMALL]}, "x-ms-runtime.keys: want an RSA key of 2048 to 8192 bits, got another"),
        (
            {"keys": [{"kty": "RSA", "kid": "k", "use": "enc"}]},
            "x-ms-runtime.keys.x5c: want base64url, got nothing",
        ),
        (
            {"keys": [{"kty": "RSA", "kid": "k", "use": "enc", "x5c": ["AAAA"]}]},
            "x-ms-runtime.keys: want an RSA key, got another",
        ),
    ],
)
def test_no_key_to_release_to(runtime: Any, message: str) -> None:
    """Without a good key there is nobody to release to."""
    with pytest.raises(KluisError) as refused:
        recipient.recipient({"x-ms-runtime": runtime})
    assert refused.value.message == message


def test_a_certificate_of_another_kind_of_key() -> None:
    """A certificate of a key that nothing is encrypted to names nobody to release to."""
    for key in (ec.generate_private_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate()):
        entry = {"kty": "RSA", "kid": "c", "use": "enc", "x5c": [b64.encode(certificate(key))]}
        with pytest.raises(FormatError, match="want an RSA key of 2048 to 8192 bits, got another"):
            recipient.recipient({"x-ms-runtime": {"keys": [entry]}})


def test_a_weak_key_hides_no_strong_one() -> None:
    """The first suitable key counts: a good one after a bad one is not looked for."""
    with pytest.raises(FormatError):
        recipient.recipient({"x-ms-runtime": {"keys": [SMALL, GOOD]}})


@given(st.text(alphabet="abcXYZ019-_.=+/ ", max_size=80))
def test_only_our_errors_escape(text: str) -> None:
    """Whatever text a token is, it is refused by an error of ours."""
    with pytest.raises(KluisError):
        signed_claims.check(text, RING, NOW)


leaves = st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(max_size=5)
names = st.sampled_from(["keys", "kty", "kid", "n", "e", "use", "x5c"])
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["iss", "exp", "nbf", "x-ms-runtime", "iat"]), values))
def test_whatever_an_authority_signs(members: dict[str, Any]) -> None:
    """Claims of any shape, truly signed, end in a recipient or an error of ours."""
    said = claims(**members)
    try:
        found = signed_claims.check(sign(said), RING, NOW)
        recipient.recipient(found.claims)
    except KluisError:
        return
