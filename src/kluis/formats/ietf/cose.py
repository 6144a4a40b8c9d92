"""COSE: one signature over a payload, and public keys. Only :func:`check` verifies a signature.

    COSE_Sign1 = [protected: bstr .cbor map, unprotected: map, payload: bstr, signature: bstr], tag 18 or none

The algorithm is read only from the protected header, and a label occurs in one header only. A payload is
attached unless the caller has it from elsewhere. ``crit`` is refused, because no critical header is supported
here.

Spec: RFC 9052, "COSE_Sign1", "Signing and Verification Process", "Key Objects"; RFC 9053, "ECDSA", "Double
Coordinate Curves".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from kluis.errors import AuthenticityError, FormatError, UnsupportedError, UsageError
from kluis.formats.encoding import cbor
from kluis.formats.encoding.cbor import Key, Tagged, Value, Writable
from kluis.formats.encoding.entries import Entries, kind_of
from kluis.formats.x509 import KeyKind, PublicKey, Scheme
from kluis.frozen import frozen

TAG: Final = 18
ALGORITHM: Final = 1
CRITICAL: Final = 2
KEY_ID: Final = 4
ES256: Final = -7
ES384: Final = -35
ES512: Final = -36
# ECDSA only with the curve that RFC 9053 recommends for each hash.
SCHEMES: Final[Mapping[int, Scheme]] = {ES256: Scheme.ES256, ES384: Scheme.ES384, ES512: Scheme.ES512}
CURVES: Final[Mapping[Scheme, KeyKind]] = {
    Scheme.ES256: KeyKind.P256,
    Scheme.ES384: KeyKind.P384,
    Scheme.ES512: KeyKind.P521,
}
# The protected header of nearly every message: only the algorithm.
_HEADERS: Final[Mapping[bytes, Any]] = {
    bytes.fromhex("a10126"): MappingProxyType({ALGORITHM: ES256}),
    bytes.fromhex("a1013822"): MappingProxyType({ALGORITHM: ES384}),
}
_MAPS: Final = (dict, MappingProxyType)
_CONTEXT: Final = b"\x84\x6aSignature1"
_KEY_NAMES: Final = {1: "kty", 2: "kid", 3: "alg", 4: "key_ops", -1: "crv", -2: "x", -3: "y"}
_EC2: Final = 2
_KEY_CURVES: Final = {1: KeyKind.P256, 2: KeyKind.P384}


@frozen(kw_only=True)
class Sign1:
    """A COSE_Sign1 message. Nothing here is verified.

    Attributes:
        protected: the protected header's bytes, unchanged.
        headers: parsed from ``protected``.
        unprotected: not authenticated; no algorithm and no key is taken from it.
        payload: what is signed; empty while it is detached and not yet known.
        signature: for ECDSA r and s, big-endian, each as long as the curve.
        tagged: whether it had tag 18.
        detached: whether the payload is not part of the message.
    """

    protected: bytes
    headers: Mapping[Key, Value]
    unprotected: Mapping[Key, Value]
    payload: bytes
    signature: bytes
    tagged: bool = True
    detached: bool = False

    @classmethod
    def parse(
        cls,
        data: bytes,
        what: str,
        *,
        max_size: int = cbor.MAX_SIZE,
        tags: Collection[int] = (),
        detached: bool = False,
    ) -> Self:
        """Parse one message, tagged or not.

        Args:
            data: the message.
            what: what it claims to be, for messages.
            max_size: bytes.
            tags: allowed in its protected header, such as those of dates.
            detached: whether its payload must be detached; else it must be attached.

        Raises:
            UnsupportedError: a critical header, or a payload that is detached, or attached, and must not be.
            FormatError: not a strict COSE_Sign1, or bytes after it.
        """
        value = cbor.loads(data, what, tags=(TAG,), max_size=max_size)
        tagged = isinstance(value, Tagged)
        parts = value.value if isinstance(value, Tagged) else value
        if type(parts) is not list or len(parts) != 4:
            raise FormatError(f"{what}: want a list of 4, got {kind_of(parts)}", code="bad_type")
        protected, unprotected, payload, signature = parts
        if (payload is None) != detached:
            raise UnsupportedError(
                f"{what}.payload: is {'attached' if detached else 'detached'}", code="bad_type"
            )
        if payload is None:
            payload = b""
        if type(protected) is not bytes or type(payload) is not bytes or type(signature) is not bytes:
            raise FormatError(
                f"{what}: want protected header, payload and signature as bytes", code="bad_type"
            )
        headers: Any = _HEADERS.get(protected)
        if headers is None:
            headers = cbor.loads(protected, f"{what}.protected", tags=tags) if protected else {}
        if type(headers) not in _MAPS or type(unprotected) is not dict:
            raise FormatError(f"{what}: want two headers that are maps", code="bad_type")
        if CRITICAL in headers or CRITICAL in unprotected:
            raise UnsupportedError(f"{what}: critical headers are not known here", code="bad_type")
        if unprotected and (ALGORITHM in unprotected or not headers.keys().isdisjoint(unprotected)):
            raise FormatError(f"{what}.unprotected: holds what must be protected", code="duplicate_key")
        return cls(
            protected=protected,
            headers=headers,
            unprotected=unprotected,
            payload=payload,
            signature=signature,
            tagged=tagged,
            detached=detached,
        )

    def over(self, payload: bytes) -> Self:
        """The message with its detached payload."""
        return dataclasses.replace(self, payload=payload)

    def encode(self, signature: bytes | None = None) -> bytes:
        """Write the message: the bytes it was read from, or with another signature."""
        payload = None if self.detached else self.payload
        parts: list[Writable] = [
            self.protected,
            self.unprotected,
            payload,
            self.signature if signature is None else signature,
        ]
        return (cbor.head(6, TAG) if self.tagged else b"") + cbor.dumps(parts)

    def scheme(self, what: str, algorithms: Sequence[int] = (ES256, ES384)) -> Scheme:
        """The signature scheme in the protected header.

        Args:
            what: for messages.
            algorithms: those that the format uses, of ``SCHEMES``.

        Raises:
            UnsupportedError: no scheme, or one that is not among ``algorithms``.
        """
        algorithm = self.headers.get(ALGORITHM)
        scheme = SCHEMES.get(algorithm) if type(algorithm) is int and algorithm in algorithms else None
        if scheme is None:
            raise UnsupportedError(
                f"{what}.protected: want algorithm {' or '.join(map(str, algorithms))}, got "
                f"{algorithm if type(algorithm) is int else kind_of(algorithm)}",
                code="bad_type",
            )
        return scheme

    def signed_bytes(self) -> bytes:
        """The bytes that the signature covers: a Sig_structure without external data."""
        head = cbor.head
        return b"".join(
            (
                _CONTEXT,
                head(2, len(self.protected)),
                self.protected,
                b"\x40",
                head(2, len(self.payload)),
                self.payload,
            )
        )


def sign1(
    payload: bytes,
    key: ec.EllipticCurvePrivateKey,
    protected: Mapping[Key, Writable] | None = None,
    *,
    detached: bool = False,
) -> bytes:
    """Sign ``payload``, as a tagged message.

    Args:
        payload: any bytes.
        key: on P-256, which signs ES256, P-384, which signs ES384, or P-521, which signs ES512.
        protected: further protected headers, in addition to the algorithm.
        detached: whether the message leaves the payload out.

    Raises:
        UsageError: a key on another curve, or headers that name an algorithm.
    """
    return sign1_by(key.sign, key.curve, payload, protected, detached=detached)


def sign1_by(
    sign: Callable[[bytes, ec.ECDSA], bytes],
    curve: ec.EllipticCurve,
    payload: bytes,
    protected: Mapping[Key, Writable] | None = None,
    *,
    detached: bool = False,
) -> bytes:
    """As :func:`sign1`, with a key of any library.

    Args:
        sign: takes bytes and the scheme, with its hash; returns an ECDSA signature, DER.
        curve: of its key.
        payload: any bytes.
        protected: further protected headers, in addition to the algorithm.
        detached: whether the message leaves the payload out.
    """
    if protected and not {ALGORITHM, CRITICAL}.isdisjoint(protected):
        raise UsageError("COSE header: want neither alg nor crit, got one of them")
    headers: dict[Key, Writable] = {ALGORITHM: algorithm_of(curve), **(protected or {})}
    return sign1_raw(sign, curve, payload, cbor.dumps(headers), detached=detached)


def sign1_raw(
    sign: Callable[[bytes, ec.ECDSA], bytes],
    curve: ec.EllipticCurve,
    payload: bytes,
    protected: bytes,
    *,
    detached: bool = False,
) -> bytes:
    """As :func:`sign1_by`, with protected headers that are encoded, the curve's algorithm among them."""
    algorithm, size = _algorithm(curve)
    unsigned = Sign1(
        protected=protected, headers={}, unprotected={}, payload=payload, signature=b"", detached=detached
    )
    r, s = decode_dss_signature(sign(unsigned.signed_bytes(), _ECDSA[algorithm]))
    return unsigned.encode(r.to_bytes(size, "big") + s.to_bytes(size, "big"))


def algorithm_of(curve: ec.EllipticCurve) -> int:
    """The algorithm of a key on P-256, P-384 or P-521.

    Raises:
        UsageError: another curve.
    """
    return _algorithm(curve)[0]


def check(message: Sign1, key: ec.EllipticCurvePublicKey, what: str) -> None:
    """Check that ``key``, on P-256, P-384 or P-521, made the message's signature with its curve's algorithm.

    Raises:
        AuthenticityError: it did not, or the message names another algorithm.
        UsageError: a key on another curve.
    """
    algorithm, size = _algorithm(key.curve)
    named, signature = message.headers.get(ALGORITHM), message.signature
    good = type(named) is int and named == algorithm and len(signature) == 2 * size
    if good:
        r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        try:
            key.verify(encode_dss_signature(r, s), message.signed_bytes(), _ECDSA[algorithm])
        except InvalidSignature:
            good = False
    if not good:
        raise AuthenticityError(f"{what}: is not signed by the key it should be", code="sig_cose")


def mirror(message: Sign1) -> bytes:
    """The other signature with which a message is signed: (r, n - s), which anyone computes from (r, s).

    So a signature does not identify what must happen once.

    Args:
        message: of which :func:`check` held.

    Spec: RFC 9053, "Security Considerations for ECDSA".
    """
    signature = message.signature
    size = len(signature) // 2
    return signature[:size] + (_ORDERS[size] - int.from_bytes(signature[size:], "big")).to_bytes(size, "big")


def parse_key(data: bytes, what: str) -> PublicKey:
    """Parse a COSE_Key: a public key on P-256 or P-384 with both coordinates.

    Raises:
        UnsupportedError: another type or curve, or a compressed point.
        FormatError: not a COSE_Key, or one with a private part.
    """
    entries = Entries(cbor.loads(data, what), what, _KEY_NAMES)
    entries.only((1, -1, -2, -3), (2, 3, 4))
    kind = _KEY_CURVES.get(entries.integer(-1, least=-1 << 32, most=1 << 32))
    if entries.integer(1, least=-1 << 32, most=1 << 32) != _EC2 or kind is None:
        raise UnsupportedError(f"{what}: want a key of type 2 on curve 1 or 2", code="bad_type")
    size = (kind.size,)
    return PublicKey.of_point(kind, b"\x04" + entries.octets(-2, size) + entries.octets(-3, size))


def encode_key(key: PublicKey) -> bytes:
    """Write a public key on P-256 or P-384 as a COSE_Key.

    Raises:
        UsageError: another kind of key.
    """
    for curve, kind in _KEY_CURVES.items():
        if kind is key.kind:
            x, y = key.bits[1 : 1 + kind.size], key.bits[1 + kind.size :]
            return cbor.dumps({1: _EC2, -1: curve, -2: x, -3: y})
    raise UsageError(f"COSE_Key: want a key on P-256 or P-384, got one of kind {key.kind.value}")


_ECDSA: Final[Mapping[int, ec.ECDSA]] = {
    ES256: ec.ECDSA(hashes.SHA256()),
    ES384: ec.ECDSA(hashes.SHA384()),
    ES512: ec.ECDSA(hashes.SHA512()),
}
# By the bytes of each half of a signature.
_ORDERS: Final = {32: ec.SECP256R1.group_order, 48: ec.SECP384R1.group_order, 66: ec.SECP521R1.group_order}


def _algorithm(curve: ec.EllipticCurve) -> tuple[int, int]:
    if isinstance(curve, ec.SECP256R1):
        return ES256, 32
    if isinstance(curve, ec.SECP384R1):
        return ES384, 48
    if isinstance(curve, ec.SECP521R1):
        return ES512, 66
    raise UsageError(f"COSE: want a key on P-256, P-384 or P-521, got one on {curve.name}")
