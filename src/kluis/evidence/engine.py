"""Engines: the libraries that do the arithmetic of signature checks. Parsers and rules are the same for all.

``OPENSSL``, through ``cryptography``, is the reference. ``aws_lc`` is optional: it verifies P-384 in less
than half the time, and P-256 in four fifths of it.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kluis.errors import UnavailableError
from kluis.formats.x509 import KeyKind, PublicKey, Scheme

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_DIGESTS: Final = {Scheme.ES256: hashlib.sha256, Scheme.ES384: hashlib.sha384, Scheme.ES512: hashlib.sha512}
_OF_DIGESTS: Final = {scheme: ec.ECDSA(Prehashed(_HASHES[scheme.hash])) for scheme in _DIGESTS}


def _before_point(kind: KeyKind) -> tuple[int, bytes]:
    """The size of the SubjectPublicKeyInfo of an uncompressed point, and the bytes before the coordinates."""
    spki = PublicKey.of_point(kind, b"\x04" + bytes(2 * kind.size)).spki
    return len(spki), spki[: -2 * kind.size]


_POINTS: Final = dict(map(_before_point, (KeyKind.P256, KeyKind.P384)))


class Key(Protocol):
    """A public key for one scheme."""

    def verify(self, signature: bytes, signed: bytes) -> bool:
        """Whether this key made ``signature`` (DER for ECDSA, raw for RSA) over ``signed``."""
        ...


class Engine(Protocol):
    """Loads public keys."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def key(self, spki: bytes, scheme: Scheme) -> Key:
        """Load a key.

        Args:
            spki: DER of the SubjectPublicKeyInfo.
            scheme: the only scheme that the key will verify.

        Raises:
            ValueError: not a key of that scheme.
        """
        ...


class _OpenSslKey:
    """A key of ``cryptography``, with the arguments of its check prepared once."""

    __slots__ = ("_arguments", "_verify")

    def __init__(self, key: Any, *arguments: Any) -> None:
        self._verify = key.verify
        self._arguments = arguments

    def verify(self, signature: bytes, signed: bytes) -> bool:
        try:
            self._verify(signature, signed, *self._arguments)
        except InvalidSignature:
            return False
        return True


class _OpenSslCurveKey:
    """An elliptic-curve key of ``cryptography``, which receives the digest: slower to create."""

    __slots__ = ("_algorithm", "_digest", "_verify")

    def __init__(self, key: ec.EllipticCurvePublicKey, scheme: Scheme) -> None:
        self._verify = key.verify
        self._digest = _DIGESTS[scheme]
        self._algorithm = _OF_DIGESTS[scheme]

    def verify(self, signature: bytes, signed: bytes) -> bool:
        try:
            self._verify(signature, self._digest(signed).digest(), self._algorithm)
        except InvalidSignature:
            return False
        return True


class _OpenSsl:
    """Keys by ``cryptography``."""

    name = "OpenSSL"

    def key(self, spki: bytes, scheme: Scheme) -> Key:
        try:
            key = load_der_public_key(spki)
        except UnsupportedAlgorithm as error:
            raise ValueError(str(error)) from None
        if scheme in _DIGESTS:
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise ValueError("is no key on a curve")
            return _OpenSslCurveKey(key, scheme)
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("is no RSA key")
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise ValueError(f"has {key.key_size} bits, want {MIN_RSA_BITS} to {MAX_RSA_BITS}")
        digest = _HASHES[scheme.hash]
        if scheme.name.startswith("R"):
            return _OpenSslKey(key, padding.PKCS1v15(), digest)
        salted = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
        return _OpenSslKey(key, salted, digest)


class _AwsLcKey:
    """A key of AWS-LC, which receives the digest."""

    __slots__ = ("_digest", "_verify")

    def __init__(self, verify: Any, scheme: Scheme) -> None:
        self._verify = verify
        self._digest = _DIGESTS[scheme]

    def verify(self, signature: bytes, signed: bytes) -> bool:
        return bool(self._verify(self._digest(signed).digest(), signature))


class _AwsLc:
    """Uses AWS-LC for uncompressed points on P-256 and P-384, and OpenSSL for all other keys."""

    name = "AWS-LC"

    def __init__(self, ec_class: Any) -> None:
        self._load = ec_class.new_key_from_der_data

    def key(self, spki: bytes, scheme: Scheme) -> Key:
        form = _POINTS.get(len(spki))
        if form is not None and spki.startswith(form) and scheme in _DIGESTS:
            try:
                return _AwsLcKey(self._load(spki).verify, scheme)
            except RuntimeError:
                # Not a point on the curve: the reference raises the error.
                pass
        return OPENSSL.key(spki, scheme)


OPENSSL: Final[Engine] = _OpenSsl()


def aws_lc() -> Engine:
    """The engine of AWS-LC, from the package ``awscrt``.

    Raises:
        UnavailableError: the package is not installed.
    """
    try:
        from awscrt.crypto import EC
    except ImportError:
        raise UnavailableError(
            "engine AWS-LC: package awscrt is not installed", hint="pip install 'awscrt>=0.27'"
        ) from None
    return _AwsLc(EC)
