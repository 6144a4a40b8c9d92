"""Parse JSON Web Keys: public keys, strictly.

Spec: RFC 7517, "JSON Web Key (JWK) Format"; RFC 7518, "Parameters for Elliptic Curve Keys",
"Parameters for RSA Public Keys".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.jcs import Json
from kluis.formats.encoding.members import Members
from kluis.formats.x509 import KeyKind, PublicKey

MAX_SIZE: Final = 8 * 1024
MAX_RSA: Final = 1024
_CURVES: Final[Mapping[str, KeyKind]] = {
    kind.value: kind for kind in (KeyKind.P256, KeyKind.P384, KeyKind.P521)
}
_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")


def parse_jwk(data: bytes, what: str) -> PublicKey:
    """Parse one JWK, JSON of at most 8 KiB.

    Raises:
        UnsupportedError: a type other than EC and RSA, or another curve.
        FormatError: not a public JWK.
    """
    return public_key(jcs.loads(data, what, max_size=MAX_SIZE, max_depth=4), what)


def public_key(value: Json, what: str) -> PublicKey:
    """The public key in a decoded JWK; ``use``, ``kid`` and the like are ignored.

    Raises:
        UnsupportedError: a type other than EC and RSA, or another curve.
        FormatError: not a public JWK.
    """
    members = Members(value, what)
    if any(name in members for name in _PRIVATE):
        raise FormatError(f"{what}: want a public key, got a private one", code="bad_type")
    kind = members.text("kty", limit=16)
    if kind == "EC":
        name = members.text("crv", limit=16)
        curve = _CURVES.get(name)
        if curve is None:
            raise UnsupportedError(
                f"{what}.crv: want one of {', '.join(_CURVES)}, got {name!a}", code="bad_type"
            )
        x, y = (_octets(members, name, curve.size, curve.size) for name in ("x", "y"))
        return PublicKey.of_point(curve, b"\x04" + x + y)
    if kind == "RSA":
        modulus, exponent = _octets(members, "n", 1, MAX_RSA), _octets(members, "e", 1, 8)
        if not modulus[0] or not exponent[0]:
            raise FormatError(f"{what}: want numbers without leading zeros", code="bad_encoding")
        return PublicKey.of_rsa(int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big"))
    raise UnsupportedError(f"{what}.kty: want EC or RSA, got {kind!a}", code="bad_type")


def _octets(members: Members, name: str, least: int, most: int) -> bytes:
    """Read base64url without padding, in its one encoding, of ``least`` to ``most`` bytes."""
    text = members.text(name, limit=2 * MAX_RSA)
    data = b64.decode_url(text, f"{members.what}.{name}")
    if not least <= len(data) <= most:
        raise FormatError(
            f"{members.what}.{name}: is {len(data)} bytes, want {least} to {most}", code="bad_length"
        )
    return data
