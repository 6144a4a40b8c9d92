"""Private keys that are brought: read whole or refused, and never shown."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key
from hypothesis import given
from hypothesis import strategies as st

from kluis.formats.encoding import b64
from kluis.services.keyvault.crypto import material
from kluis.services.keyvault.faults import BadParameter
from kluis.services.keyvault.vault.records import KeyVersion
from tests.services.keyvault.world import OTHER_KEY, World, opened, policy, public_jwk, sign
from tests.services.keyvault.world import claims as claimed

CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1(), "P-256K": ec.SECP256K1()}


def number(value: int) -> str:
    """A number as a JWK has it."""
    return b64.encode_url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def rsa_jwk(key: rsa.RSAPrivateKey = OTHER_KEY, **changes: Any) -> dict[str, Any]:
    """A private JWK."""
    numbers = key.private_numbers()
    made = {
        **public_jwk(key), "d": number(numbers.d), "p": number(numbers.p), "q": number(numbers.q),
        "dp": number(numbers.dmp1), "dq": number(numbers.dmq1), "qi": number(numbers.iqmp), **changes,
    }  # fmt: skip
    return {name: value for name, value in made.items() if value is not None}


def ec_jwk(curve: str, **changes: Any) -> dict[str, Any]:
    """A private JWK on a curve."""
    numbers = ec.generate_private_key(CURVES[curve]).private_numbers()
    public = numbers.public_numbers
    made = {"kty": "EC", "crv": curve, "x": public.x, "y": public.y, "d": numbers.private_value}
    return {
        name: number(value) if isinstance(value, int) else value for name, value in made.items()
    } | changes


def test_rsa_with_and_without_what_follows_from_the_rest() -> None:
    """Exponents that follow from the primes may be left out."""
    whole = material.import_jwk(rsa_jwk())
    assert whole == material.import_jwk(rsa_jwk(dp=None, dq=None, qi=None))
    assert whole.public == {name: value for name, value in public_jwk(OTHER_KEY).items() if name != "kty"}


@pytest.mark.parametrize("curve", CURVES)
def test_curves(curve: str) -> None:
    """Each curve, there and back."""
    jwk = ec_jwk(curve)
    made = material.import_jwk(jwk)
    assert made.size == CURVES[curve].key_size
    assert b64.decode_url(made.public["x"], "x").lstrip(b"\0") == b64.decode_url(jwk["x"], "x")


BROKEN = "JSON Web Key: its members do not make one private key"


@pytest.mark.parametrize(
    ("jwk", "message"),
    [
        ({}, "JSON Web Key: want kty, got none"),
        ({"kty": 5}, "JSON Web Key: want kty, got none"),
        (
            {"kty": "RSA-HSM", "key_hsm": "AA"},
            "JSON Web Key: want a private key's members, got key_hsm, a key that an HSM's tool wrapped",
        ),
        ({"kty": "OKP"}, "kty: want one of RSA, RSA-HSM, EC, EC-HSM, oct, oct-HSM, got 'OKP'"),
        (rsa_jwk(d=None), "JSON Web Key.d: want base64url, got nothing"),
        (rsa_jwk(p=None), "JSON Web Key.p: want base64url, got nothing"),
        (rsa_jwk(d="AQAB"), BROKEN),
        (rsa_jwk(p="Ag"), BROKEN),
        (rsa_jwk(qi="AQ"), BROKEN),
        (rsa_jwk(e="Ag"), "JSON Web Key: want an odd public exponent of at most 32 bits, got another"),
        (rsa_jwk(n="AQAB"), "JSON Web Key: want an RSA key of 2048, 3072, 4096 bits, got 17"),
        (rsa_jwk(n="A" * 2000), "JSON Web Key.n: want at most 1024 bytes, got more"),
        (
            ec_jwk("P-256", crv="P-999"),
            "JSON Web Key: want a curve of P-256, P-384, P-521, P-256K, got another",
        ),
        (ec_jwk("P-256", crv="P-384"), BROKEN),
        (ec_jwk("P-256", d="AQ"), BROKEN),
        (ec_jwk("P-256", y="AQ"), BROKEN),
        ({"kty": "oct"}, "JSON Web Key.k: want base64url, got nothing"),
        (
            {"kty": "oct", "k": "AAAA"},
            "JSON Web Key: want an oct key of 128, 192, 256, 384, 512 bits, got one of 24",
        ),
        (
            {"kty": "oct", "k": b64.encode_url(bytes(65))},
            "JSON Web Key: k property of oct key is too large, maximum size is 64",
        ),
    ],
)
def test_keys_that_are_none(jwk: dict[str, Any], message: str) -> None:
    """A key whose members do not belong together is refused, without a word of its private ones."""
    with pytest.raises(BadParameter) as refused:
        material.import_jwk(jwk)
    assert refused.value.message == message


@pytest.mark.parametrize("exponent", [3, 17])
def test_keys_of_another_exponent(exponent: int) -> None:
    """A key is made with the requested exponent, signs, and its signature verifies."""
    made = World().ok("POST", "/keys/k/create", {"kty": "RSA-HSM", "public_exponent": exponent})
    assert b64.decode_url(made["key"]["e"], "e") == bytes([exponent])
    key = material.generate("RSA", size=None, crv=None, exponent=exponent).secret
    private = load_der_private_key(key, None)
    assert isinstance(private, rsa.RSAPrivateKey)
    signature = private.sign(b"data", padding.PKCS1v15(), hashes.SHA256())
    private.public_key().verify(signature, b"data", padding.PKCS1v15(), hashes.SHA256())


def test_what_is_released_is_what_was_brought() -> None:
    """Each kind of key comes out as it went in: PKCS#8, or the bytes of an oct key."""
    world = World()
    secret = bytes(range(32))
    for name, jwk in (
        ("r", rsa_jwk()), ("e", ec_jwk("P-256")), ("o", {"kty": "oct", "k": b64.encode_url(secret)}),
    ):  # fmt: skip
        asked = {
            "key": jwk, "Hsm": True, "attributes": {"exportable": True},
            "release_policy": {"data": b64.encode_url(policy())},
        }  # fmt: skip
        world.ok("PUT", f"/keys/{name}", asked)
        got = opened(world.release(sign(claimed()), name).json()["value"])
        assert got == (secret if name == "o" else material.import_jwk(jwk).secret)


def test_nothing_shows_its_material() -> None:
    """Neither the repr of material nor that of a stored version has more than its kind."""
    made = material.generate("oct", size=256, crv=None, exponent=None)
    version = KeyVersion(
        id="0" * 32, kty="oct", secret=made.secret, public={}, size=256, key_ops=(), created=0, updated=0
    )
    assert repr(made) == "Material(256 bits)"
    assert repr(version) == f"KeyVersion({'0' * 32}, oct, 256 bits)"
    assert f"{version}" == repr(version)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(sorted(rsa_jwk())), junk)
def test_a_member_of_another_kind(member: str, value: Any) -> None:
    """A member replaced by anything ends in a key or a refusal of ours."""
    for jwk in (rsa_jwk(), ec_jwk("P-256"), {"kty": "oct", "k": "A" * 43}):
        try:
            material.import_jwk({**jwk, member: value})
        except BadParameter:
            continue
