"""Engines do arithmetic, and agree: one scheme a key, and no way round it."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.errors import UnavailableError
from kluis.evidence import TrustAnchors, engine
from kluis.evidence.context import Context
from kluis.evidence.engine import OPENSSL, Engine
from kluis.formats.x509 import Scheme
from tests.keys import rsa_key

RSA = rsa_key()
CURVES = {
    Scheme.ES256: ec.generate_private_key(ec.SECP256R1()),
    Scheme.ES384: ec.generate_private_key(ec.SECP384R1()),
    Scheme.ES512: ec.generate_private_key(ec.SECP521R1()),
}
HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}


def engines() -> list[Engine]:
    """OpenSSL, and AWS-LC where it is installed."""
    try:
        return [OPENSSL, engine.aws_lc()]
    except UnavailableError:
        return [OPENSSL]


def _spki(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[no-any-return]


def _sign(scheme: Scheme, data: bytes) -> tuple[bytes, bytes]:
    digest = HASHES[scheme.hash]
    if scheme in CURVES:
        return _spki(CURVES[scheme]), CURVES[scheme].sign(data, ec.ECDSA(digest))
    if scheme.name.startswith("R"):
        return _spki(RSA), RSA.sign(data, padding.PKCS1v15(), digest)
    return _spki(RSA), RSA.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)


@pytest.mark.parametrize("each", engines(), ids=lambda each: each.name)
@pytest.mark.parametrize("scheme", Scheme, ids=lambda scheme: scheme.name)
def test_schemes(scheme: Scheme, each: Engine) -> None:
    """A signature of the scheme verifies; over other bytes, cut or by another scheme it does not."""
    spki, signature = _sign(scheme, b"data")
    key = each.key(spki, scheme)
    assert key.verify(signature, b"data")
    assert not key.verify(signature, b"Data")
    assert not key.verify(signature[:-1], b"data")
    assert not key.verify(b"", b"data")
    if scheme not in CURVES:
        other = Scheme[("P" if scheme.name.startswith("R") else "R") + scheme.name[1:]]
        assert not each.key(spki, other).verify(signature, b"data")


@pytest.mark.parametrize("each", engines(), ids=lambda each: each.name)
@pytest.mark.parametrize(
    ("spki", "scheme"),
    [
        (b"", Scheme.ES256),
        (_spki(RSA), Scheme.ES256),
        (_spki(CURVES[Scheme.ES256]), Scheme.PS384),
        (_spki(ed25519.Ed25519PrivateKey.generate()), Scheme.RS256),
        (_spki(rsa_key(bits=1024)), Scheme.RS256),
        (_spki(CURVES[Scheme.ES256])[:-64] + bytes(64), Scheme.ES256),
        (_spki(CURVES[Scheme.ES384])[:-1], Scheme.ES384),
        (_spki(CURVES[Scheme.ES384]) + b"\0", Scheme.ES384),
    ],
    ids=[
        "nothing",
        "RSA for a curve",
        "curve for RSA",
        "Ed25519",
        "RSA of 1024 bits",
        "no point",
        "cut short",
        "a byte more",
    ],
)
def test_other_keys(spki: bytes, scheme: Scheme, each: Engine) -> None:
    """A key that the scheme cannot use, or that is too short, is refused when it is loaded."""
    with pytest.raises(ValueError):  # noqa: PT011  # each engine words it as it likes
        each.key(spki, scheme)


def test_curves_of_one_engine() -> None:
    """A curve that AWS-LC does not have falls to OpenSSL; the verdict is the same."""
    for each in engines():
        spki = _spki(ec.generate_private_key(ec.SECP521R1()))
        assert not each.key(spki, Scheme.ES512).verify(b"", b"data")


def test_an_engine_by_anothers_name() -> None:
    """Keys of shipped roots, which are everybody's, are no other engine's, whatever that calls itself."""

    class Yes:
        name = OPENSSL.name

        def verify(self, signature: bytes, signed: bytes) -> bool:
            return True

        def key(self, spki: bytes, scheme: Scheme) -> Yes:
            return self

    (root,) = (each for each in TrustAnchors.shipped() if each.name.startswith("AWS"))
    yes = Context(TrustAnchors.shipped(), Yes()).key(root.spki, Scheme.ES384, "root", code="x")
    assert yes.verify(b"", b"")
    true = Context(TrustAnchors.shipped()).key(root.spki, Scheme.ES384, "root", code="x")
    assert not true.verify(b"\x30\x06\x02\x01\x01\x02\x01\x01", b"")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the second engine is not installed, the error states how to install it."""
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("awscrt"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnavailableError) as caught:
        engine.aws_lc()
    assert caught.value.hint == "pip install 'awscrt>=0.27'"


def test_a_curve_that_only_one_has() -> None:
    """An engine that cannot load a key leaves it to the reference."""

    class Poor:
        @staticmethod
        def new_key_from_der_data(_: bytes) -> object:
            raise RuntimeError

    spki, signature = _sign(Scheme.ES256, b"data")
    assert engine._AwsLc(Poor).key(spki, Scheme.ES256).verify(signature, b"data")


def test_an_algorithm_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that the library does not support is refused like any malformed one."""
    from cryptography.exceptions import UnsupportedAlgorithm

    def refuse(_: bytes) -> object:
        raise UnsupportedAlgorithm("curve")

    monkeypatch.setattr(engine, "load_der_public_key", refuse)
    with pytest.raises(ValueError, match="curve"):
        OPENSSL.key(b"", Scheme.ES256)
