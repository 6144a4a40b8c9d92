"""Kinds of keys and signatures that vendors use, and their identifiers in certificates.

Spec: RFC 5758 (ECDSA), RFC 4055 (RSA, RSASSA-PSS), RFC 5480 (keys on curves).
"""

from __future__ import annotations

import enum
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import der


class KeyKind(enum.Enum):
    """A public key's kind; ``size`` is that of one coordinate in bytes, 0 for RSA."""

    P256 = "P-256"
    P384 = "P-384"
    P521 = "P-521"
    RSA = "RSA"

    @property
    def size(self) -> int:
        """Bytes of a coordinate, and of each half of a raw signature; 0 for RSA."""
        return _SIZES[self]


class Scheme(enum.Enum):
    """A signature's algorithm and hash, with JOSE's abbreviations; PSS has a salt as long as its hash."""

    ES256 = "ECDSA with SHA-256"
    ES384 = "ECDSA with SHA-384"
    ES512 = "ECDSA with SHA-512"
    PS256 = "RSASSA-PSS with SHA-256"
    PS384 = "RSASSA-PSS with SHA-384"
    PS512 = "RSASSA-PSS with SHA-512"
    RS256 = "RSASSA-PKCS1-v1_5 with SHA-256"
    RS384 = "RSASSA-PKCS1-v1_5 with SHA-384"
    RS512 = "RSASSA-PKCS1-v1_5 with SHA-512"

    # A member equals only itself, and is looked up for every key: comparing by identity is faster.
    __hash__ = object.__hash__

    @property
    def hash(self) -> str:
        """The hash's name in ``hashlib``."""
        return f"sha{self.name[2:]}"


_SIZES: Final = {KeyKind.P256: 32, KeyKind.P384: 48, KeyKind.P521: 66, KeyKind.RSA: 0}
_NULL: Final = b"\x05\x00"
_EC_KEY: Final = der.oid("1.2.840.10045.2.1")
_RSA_KEY: Final = der.oid("1.2.840.113549.1.1.1")
_MGF1: Final = der.oid("1.2.840.113549.1.1.8")
_PSS: Final = der.oid("1.2.840.113549.1.1.10")
_HASHES: Final = {256: "1", 384: "2", 512: "3"}


def _pss(bits: int, *, trailer: bool) -> bytes:
    # AMD's own certificates spell out the trailer field, which DER omits at its default value.
    digest = der.element(der.SEQUENCE, der.oid(f"2.16.840.1.101.3.4.2.{_HASHES[bits]}"), _NULL)
    return der.element(
        der.SEQUENCE,
        _PSS,
        der.element(
            der.SEQUENCE,
            der.element(0xA0, digest),
            der.element(0xA1, der.element(der.SEQUENCE, _MGF1, digest)),
            der.element(0xA2, der.integer(bits // 8)),
            der.element(0xA3, der.integer(1)) if trailer else b"",
        ),
    )


_ALGORITHMS: Final[dict[bytes, Scheme]] = {
    der.element(der.SEQUENCE, der.oid("1.2.840.10045.4.3.2")): Scheme.ES256,
    der.element(der.SEQUENCE, der.oid("1.2.840.10045.4.3.3")): Scheme.ES384,
    der.element(der.SEQUENCE, der.oid("1.2.840.10045.4.3.4")): Scheme.ES512,
    der.element(der.SEQUENCE, der.oid("1.2.840.113549.1.1.11"), _NULL): Scheme.RS256,
    der.element(der.SEQUENCE, der.oid("1.2.840.113549.1.1.12"), _NULL): Scheme.RS384,
    der.element(der.SEQUENCE, der.oid("1.2.840.113549.1.1.13"), _NULL): Scheme.RS512,
    **{_pss(bits, trailer=trailer): Scheme[f"PS{bits}"] for bits in _HASHES for trailer in (False, True)},
}
_KEYS: Final[dict[bytes, KeyKind]] = {
    der.element(der.SEQUENCE, _EC_KEY, der.oid("1.2.840.10045.3.1.7")): KeyKind.P256,
    der.element(der.SEQUENCE, _EC_KEY, der.oid("1.3.132.0.34")): KeyKind.P384,
    der.element(der.SEQUENCE, _EC_KEY, der.oid("1.3.132.0.35")): KeyKind.P521,
    der.element(der.SEQUENCE, _RSA_KEY, _NULL): KeyKind.RSA,
}
KEY_ALGORITHMS: Final = {kind: algorithm for algorithm, kind in _KEYS.items()}


def scheme_of(algorithm: bytes, what: str) -> Scheme:
    """The scheme that an AlgorithmIdentifier of exactly these bytes names.

    Raises:
        UnsupportedError: an unknown algorithm, or unusual parameters.
    """
    scheme = _ALGORITHMS.get(algorithm)
    if scheme is None:
        raise UnsupportedError(
            f"{what}: signature algorithm {algorithm[:32].hex()} is not one of"
            f" {', '.join(Scheme.__members__)}",
            code="bad_type",
        )
    return scheme


def key_kind(algorithm: bytes, what: str) -> KeyKind:
    """The kind of key that an AlgorithmIdentifier of exactly these bytes names.

    Raises:
        UnsupportedError: an unknown kind.
    """
    kind = _KEYS.get(algorithm)
    if kind is None:
        raise UnsupportedError(
            f"{what}: key algorithm {algorithm[:32].hex()} is not one of"
            f" {', '.join(kind.value for kind in KeyKind)}",
            code="bad_type",
        )
    return kind


def bits_of(data: bytes, start: int, end: int, what: str) -> bytes:
    """The bytes of the BIT STRING whose contents are ``data[start:end]``, all bits used.

    Raises:
        FormatError: empty, or with unused bits.
    """
    if end - start < 2 or data[start] != 0:
        raise FormatError(f"{what} at {start:#x}: want whole bytes in a bit string", code="bad_encoding")
    return data[start + 1 : end]
