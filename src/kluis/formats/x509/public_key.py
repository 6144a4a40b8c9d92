"""Parse public keys in certificates: SubjectPublicKeyInfo."""

from __future__ import annotations

import base64
import re
from typing import Final, Self

from kluis.errors import FormatError, UsageError
from kluis.formats.encoding import der
from kluis.formats.x509.scheme import KEY_ALGORITHMS, KeyKind, bits_of, key_kind
from kluis.frozen import frozen

MAX_KEY: Final = 4096
_PEM: Final = re.compile(
    rb"\s*-----BEGIN PUBLIC KEY-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END PUBLIC KEY-----\s*\Z"
)


@frozen
class PublicKey:
    """A public key, parsed only as far as its kind.

    Attributes:
        spki: DER of the SubjectPublicKeyInfo.
        kind: of key.
        bits: contents of the bit string: a point on the curve, uncompressed, or DER of an RSAPublicKey.
    """

    spki: bytes
    kind: KeyKind
    bits: bytes

    @classmethod
    def of_point(cls, kind: KeyKind, point: bytes) -> Self:
        """The key whose uncompressed point, 0x04 and two coordinates, is ``point``.

        Raises:
            FormatError: the point is not of the curve's size.
            UsageError: ``kind`` is RSA.
        """
        if kind is KeyKind.RSA:
            raise UsageError("public key: an RSA key is no point")
        if len(point) != 1 + 2 * kind.size or point[0] != 4:
            raise FormatError(
                f"public key: want 04 and {2 * kind.size} bytes, got {len(point)} bytes", code="bad_length"
            )
        spki = der.element(der.SEQUENCE, KEY_ALGORITHMS[kind], der.element(der.BIT_STRING, b"\x00", point))
        return cls(spki, kind, point)

    @classmethod
    def of_rsa(cls, modulus: int, exponent: int) -> Self:
        """The RSA key of this modulus and exponent, both positive."""
        bits = der.element(der.SEQUENCE, der.integer(modulus), der.integer(exponent))
        algorithm = KEY_ALGORITHMS[KeyKind.RSA]
        spki = der.element(der.SEQUENCE, algorithm, der.element(der.BIT_STRING, b"\x00", bits))
        return cls(spki, KeyKind.RSA, bits)


def parse_public_key(data: bytes, what: str) -> PublicKey:
    """Parse one public key, DER or PEM, at most 4 KiB.

    Raises:
        UnsupportedError: an unknown kind.
        FormatError: not a public key.
    """
    if len(data) > MAX_KEY:
        raise FormatError(f"{what}: is {len(data)} bytes, must be at most {MAX_KEY}", code="too_large")
    if match := _PEM.match(data):
        try:
            data = base64.b64decode(match[1].replace(b"\r", b"").replace(b"\n", b""), validate=True)
        except ValueError:
            raise FormatError(f"{what}: is not base64", code="bad_encoding") from None
    key, end = read_public_key(data, 0, len(data), what)
    if end != len(data):
        raise FormatError(f"{what} at {end:#x}: {len(data) - end} bytes after the end", code="trailing_data")
    return key


def read_public_key(data: bytes, position: int, limit: int, what: str) -> tuple[PublicKey, int]:
    """Read the key at ``position``; return it and its end offset."""
    end = position + _P256_SIZE
    if end <= limit and data.startswith(_P256, position):
        return PublicKey(data[position:end], KeyKind.P256, data[end - 65 : end]), end
    start, end = der.within(data, position, limit, der.SEQUENCE, what)
    _, algorithm_end = der.within(data, start, end, der.SEQUENCE, what)
    kind = key_kind(data[start:algorithm_end], what)
    bits_start, bits_end = der.within(data, algorithm_end, end, der.BIT_STRING, what)
    if bits_end != end:
        raise FormatError(f"{what} at {bits_end:#x}: bytes after the key", code="trailing_data")
    bits = bits_of(data, bits_start, bits_end, what)
    if kind is not KeyKind.RSA and (len(bits) != 1 + 2 * kind.size or bits[0] != 4):
        raise FormatError(
            f"{what} at {bits_start:#x}: want 04 and {2 * kind.size} bytes of a point on {kind.value}",
            code="bad_length",
        )
    return PublicKey(data[position:end], kind, bits), end


# An uncompressed point on P-256 has one form.
_POINT: Final = PublicKey.of_point(KeyKind.P256, b"\x04" + bytes(64)).spki
_P256: Final = _POINT[:-64]
_P256_SIZE: Final = len(_POINT)
