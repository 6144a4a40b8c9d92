"""Engines: who does the arithmetic of a signature check. The parser and every rule are the same.

``OPENSSL`` is the reference, by ``cryptography``. ``aws_lc`` is optional: it verifies P-384 in less
than half the time.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kluis.errors import UnavailableError
from kluis.formats.x509 import Scheme

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


class Key(Protocol):
    """A public key for one scheme."""

    def verify(self, signature: bytes, signed: bytes) -> bool:
        """Whether ``signature`` (DER for ECDSA, as it is for RSA) over ``signed`` is this key's."""
        ...


class Engine(Protocol):
    """Loads public keys."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def key(self, spki: bytes, scheme: Scheme) -> Key:
        """Load a key.

        Args:
            spki: DER of the SubjectPublicKeyInfo.
            scheme: the one scheme that the key will verify.

        Raises:
            ValueError: it is no key of that scheme.
        """
        ...


class _OpenSslKey:
    """A key of ``cryptography``, with the arguments of its check made once."""

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


class _OpenSsl:
    """Keys by ``cryptography``."""

    name = "OpenSSL"

    def key(self, spki: bytes, scheme: Scheme) -> Key:
        try:
            key = load_der_public_key(spki)
        except UnsupportedAlgorithm as error:
            raise ValueError(str(error)) from None
        digest = _HASHES[scheme.hash]
        if scheme.elliptic:
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise ValueError("is no key on a curve")
            return _OpenSslKey(key, ec.ECDSA(digest))
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("is no RSA key")
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise ValueError(f"has {key.key_size} bits, want {MIN_RSA_BITS} to {MAX_RSA_BITS}")
        if scheme.name.startswith("R"):
            return _OpenSslKey(key, padding.PKCS1v15(), digest)
        salted = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
        return _OpenSslKey(key, salted, digest)


class _AwsLcKey:
    """A key of AWS-LC, which is given the digest."""

    __slots__ = ("_hash", "_verify")

    def __init__(self, verify: Any, hash_name: str) -> None:
        self._verify = verify
        self._hash = hash_name

    def verify(self, signature: bytes, signed: bytes) -> bool:
        return bool(self._verify(hashlib.new(self._hash, signed).digest(), signature))


class _AwsLc:
    """Keys on P-256 and P-384 by AWS-LC; all others by OpenSSL."""

    name = "AWS-LC"

    def __init__(self, ec_class: Any) -> None:
        self._ec = ec_class

    def key(self, spki: bytes, scheme: Scheme) -> Key:
        reference = OPENSSL.key(spki, scheme)
        if scheme not in (Scheme.ES256, Scheme.ES384):
            return reference
        try:
            loaded = self._ec.new_key_from_der_data(spki)
        except RuntimeError:
            # AWS-LC has fewer curves than OpenSSL.
            return reference
        return _AwsLcKey(loaded.verify, scheme.hash)


OPENSSL: Final[Engine] = _OpenSsl()


def aws_lc() -> Engine:
    """The engine of AWS-LC, where the package ``awscrt`` is installed.

    Raises:
        UnavailableError: it is not.
    """
    try:
        from awscrt.crypto import EC
    except ImportError:
        raise UnavailableError(
            "engine AWS-LC: package awscrt is not installed", hint="pip install 'kluis[fast]'"
        ) from None
    return _AwsLc(EC)
