"""Parse policy owners' documents: a JWS, signed or unsigned.

Azure's tools write its header in several ways, all of which are accepted:

    {"alg": "none"}                                    and no signature
    {"alg": "RS256" | "RSA256" | "ES256" | "ECDH256" | ..., "x5c": [certificate, ...]}
    {"alg": ...,                                       "jwk": {"x5c": [certificate, ...]}}

The key is the certificate's, and the certificate is in the header:
:mod:`kluis.services.attestation.policies.policies` decides whether it is trusted. No key is ever fetched
(``jku``, ``x5u``), and no algorithm with a shared key is supported. Spec: RFC 7515; Microsoft Azure
Attestation, "Signed policies".
"""

from __future__ import annotations

from typing import Any, Final

from kluis.errors import AuthenticityError
from kluis.evidence import signatures
from kluis.evidence.engine import OPENSSL
from kluis.formats.encoding import b64
from kluis.formats.x509 import Certificate, KeyKind, Scheme
from kluis.frozen import frozen
from kluis.services.attestation.faults import InvalidOperation, InvalidParameter
from kluis.services.attestation.octets import NotBase64, decode_base64, json_object
from kluis.services.attestation.policies.certificate_chains import chain_of

MAX_JWS: Final = 1 << 20
UNSIGNED_EMPTY: Final = "eyJhbGciOiJub25lIn0.."
_UNSIGNED_HEADER: Final = "eyJhbGciOiJub25lIn0"
_ALGORITHMS: Final = {
    "RS256": (Scheme.RS256, KeyKind.RSA),
    "RSA256": (Scheme.RS256, KeyKind.RSA),
    "RS384": (Scheme.RS384, KeyKind.RSA),
    "RS512": (Scheme.RS512, KeyKind.RSA),
    "PS256": (Scheme.PS256, KeyKind.RSA),
    "PS384": (Scheme.PS384, KeyKind.RSA),
    "PS512": (Scheme.PS512, KeyKind.RSA),
    "ES256": (Scheme.ES256, KeyKind.P256),
    "ECDH256": (Scheme.ES256, KeyKind.P256),
    "ES384": (Scheme.ES384, KeyKind.P384),
    "ECDH384": (Scheme.ES384, KeyKind.P384),
    "ES512": (Scheme.ES512, KeyKind.P521),
    "ECDH512": (Scheme.ES512, KeyKind.P521),
}
_NEVER: Final = ("crit", "jku", "x5u", "b64", "zip", "enc")


@frozen
class Document:
    """A document and its signer.

    Attributes:
        jws: the compact serialization, as stored.
        body: its payload, of any content.
        chain: certificates, the signer's first; empty if it is unsigned.
    """

    jws: str
    body: bytes
    chain: tuple[Certificate, ...]

    def members(self, what: str) -> dict[str, Any]:
        """The payload, a JSON object.

        Raises:
            InvalidParameter: not a JSON object.
        """
        return json_object(self.body, what)


def write_unsigned(body: bytes) -> str:
    """Write an unsigned document."""
    return f"{_UNSIGNED_HEADER}.{b64.encode_url(body)}."


def parse(text: str, what: str = "JWS") -> Document:
    """Parse a document; if it is signed, verify it with the key in its header.

    Args:
        text: compact serialization, at most 1 MiB; surrounding spaces, and one pair of quotes, are ignored.
        what: for messages.

    Raises:
        InvalidOperation: not three parts of base64; the error's name is Azure's.
        InvalidParameter: its parts have another shape, its algorithm is not supported, or the signature is
            wrong.
    """
    if len(text) > MAX_JWS:
        raise InvalidParameter(f"{what}: want at most {MAX_JWS} characters, got {len(text)}")
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    parts = text.split(".", 3)
    if len(parts) != 3:
        missing = ("first", "second")[min(len(parts), 2) - 1]
        why = f"Could not find {missing} period in the token" if len(parts) < 3 else "more than two periods"
        raise InvalidOperation(f"Malformed JWT: {why}: {what}: want three parts, got {len(parts)}")
    raw, payload, signature = parts
    header = json_object(decode_part(raw, f"{what} header", most=MAX_JWS), f"{what} header")
    for name in _NEVER:
        if name in header:
            raise InvalidParameter(f"{what} header: {name} is not taken")
    body = decode_part(payload, f"{what} payload", most=MAX_JWS)
    algorithm = header.get("alg")
    if algorithm == "none":
        if signature:
            raise InvalidParameter(f"{what}: want no signature with alg none, got one")
        return Document(text, body, ())
    chain = _chain(header, what)
    _check(
        algorithm, chain[0], decode_part(signature, f"{what} signature", most=4096), f"{raw}.{payload}", what
    )
    return Document(text, body, chain)


def decode_part(text: str, what: str, *, most: int) -> bytes:
    """Decode base64 in a document, like :func:`decode_base64`.

    Raises:
        InvalidOperation: not base64.
        InvalidParameter: more bytes.
    """
    try:
        return decode_base64(text, what, most=most)
    except NotBase64 as error:
        raise InvalidOperation(error.message) from None


def _chain(header: dict[str, Any], what: str) -> tuple[Certificate, ...]:
    x5c = header.get("x5c")
    nested = header.get("jwk")
    if x5c is None and isinstance(nested, dict):
        x5c = nested.get("x5c")
    if x5c is None:
        raise InvalidParameter(
            f"{what} header: want x5c, the signer's certificate, got none",
            hint="a key without a certificate signs nothing here: neither jwk's numbers nor kid count",
        )
    return chain_of(x5c, f"{what} header x5c")


def _check(algorithm: object, signer: Certificate, signature: bytes, signed: str, what: str) -> None:
    known = _ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
    if known is None:
        raise InvalidParameter(
            f"{what} header alg: want none or one of {', '.join(_ALGORITHMS)}, got {str(algorithm)[:32]!a}"
        )
    scheme, kind = known
    kind_of_key = signer.public_key.kind
    if kind_of_key is not kind:
        raise InvalidParameter(
            f"{what} header alg: want one of the certificate's key, {kind_of_key.value}, got {algorithm}"
        )
    try:
        key = OPENSSL.key(signer.spki, scheme)
        signatures.check_raw_by(key, signature, signed.encode(), scheme, what, code="sig_token")
    except ValueError as error:
        raise InvalidParameter(f"{what}: signer's key: {error}") from None
    except AuthenticityError as error:
        raise InvalidParameter(f"{error.message}: want CN={signer.common_name}'s") from None
