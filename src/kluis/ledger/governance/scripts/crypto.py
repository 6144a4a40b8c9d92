"""The functions of ``ccf.crypto`` for governance: digests, signatures, certificates."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from kluis.errors import FormatError
from kluis.formats.encoding import b64
from kluis.ledger.certificates import NOT_READABLE
from kluis.ledger.governance.documents import certificate_id
from kluis.ledger.js import HostFault, Value

MAX_PEM: Final = 256 * 1024
MAX_CERTIFICATES: Final = 100
_HASHES: Final[dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]]] = {
    "SHA-256": hashes.SHA256,
    "SHA-384": hashes.SHA384,
    "SHA-512": hashes.SHA512,
}
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def digest(name: Value, data: Value) -> bytes:
    """The digest of bytes, by ``SHA-256``, ``SHA-384`` or ``SHA-512``."""
    if not isinstance(name, str) or name not in _HASHES or not isinstance(data, bytes):
        raise HostFault("unsupported digest algorithm, want SHA-256, SHA-384 or SHA-512", "RangeError")
    return hashlib.new(name.replace("-", ""), data).digest()


def verify_signature(algorithm: Value, key: Value, signature: Value, data: Value) -> bool:
    """Whether a key, PEM of a public key or a certificate, signed bytes."""
    if not (
        isinstance(algorithm, dict)
        and isinstance(key, str)
        and isinstance(signature, bytes)
        and isinstance(data, bytes)
    ):
        raise HostFault("want an algorithm, a key, a signature and data", "TypeError")
    name, hashed = algorithm.get("name"), _HASHES.get(str(algorithm.get("hash")))
    public = _public_key(key)
    try:
        match public:
            case rsa.RSAPublicKey() if name == "RSASSA-PKCS1-v1_5" and hashed is not None:
                public.verify(signature, data, padding.PKCS1v15(), hashed())
            case rsa.RSAPublicKey() if name == "RSA-PSS" and hashed is not None:
                salt = padding.PSS(padding.MGF1(hashed()), padding.PSS.AUTO)
                public.verify(signature, data, salt, hashed())
            case ec.EllipticCurvePublicKey() if name == "ECDSA" and hashed is not None:
                size = (public.curve.key_size + 7) // 8
                if len(signature) != 2 * size:
                    return False
                r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
                public.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashed()))
            case ed25519.Ed25519PublicKey() if name in ("EdDSA", "Ed25519"):
                public.verify(signature, data)
            case _:
                raise HostFault("the key is not of this algorithm, or it is not supported", "RangeError")
    except InvalidSignature:
        return False
    return True


def are_certificates(pem: Value) -> bool:
    """Whether a text is PEM of one certificate or more."""
    return isinstance(pem, str) and _certificates(pem) is not None


def is_chain(chain: Value, trusted: Value) -> bool:
    """Whether each certificate of a chain is signed by the next one, and the last by a trusted one.

    Dates are not checked: a script has no clock.
    """
    if not isinstance(chain, str) or not isinstance(trusted, str):
        return False
    certificates, anchors = _certificates(chain), _certificates(trusted)
    if certificates is None or anchors is None:
        return False
    return all(_is_issued_by(child, parent) for child, parent in itertools.pairwise(certificates)) and any(
        certificates[-1] == anchor or _is_issued_by(certificates[-1], anchor) for anchor in anchors
    )


def jwk(pem: Value, kind: Value) -> dict[str, Value]:
    """A public key in PEM as JWK, of kind ``EC`` or ``RSA``."""
    public = _public_key(pem if isinstance(pem, str) else "")
    if isinstance(public, ec.EllipticCurvePublicKey) and kind == "EC" and public.curve.name in _CURVES:
        numbers, size = public.public_numbers(), (public.curve.key_size + 7) // 8
        return {
            "kty": "EC",
            "crv": _CURVES[public.curve.name],
            "x": b64.encode_url(numbers.x.to_bytes(size, "big")),
            "y": b64.encode_url(numbers.y.to_bytes(size, "big")),
        }
    if isinstance(public, rsa.RSAPublicKey) and kind == "RSA":
        of = public.public_numbers()
        return {"kty": "RSA", "n": _number(of.n), "e": _number(of.e)}
    raise HostFault("the key is no public key of that kind", "TypeError")


def pem_to_id(pem: Value) -> str:
    """The id of a certificate in PEM."""
    try:
        return certificate_id(pem.encode() if isinstance(pem, str) else b"", "certificate")
    except (ValueError, FormatError):
        raise HostFault("the text is no certificate", "TypeError") from None


def _number(value: int) -> str:
    return b64.encode_url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _public_key(pem: str) -> Any:
    data = pem.encode("utf-8", "replace")[:MAX_PEM]
    try:
        if "CERTIFICATE" in pem:
            return x509.load_pem_x509_certificate(data).public_key()
        return serialization.load_pem_public_key(data)
    except NOT_READABLE:
        raise HostFault("the key is not PEM of a public key or a certificate", "TypeError") from None


def _certificates(pem: str) -> list[x509.Certificate] | None:
    if len(pem) > MAX_PEM:
        return None
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except NOT_READABLE:
        return None
    return certificates if 0 < len(certificates) <= MAX_CERTIFICATES else None


def _is_issued_by(child: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(parent)
    except (*NOT_READABLE, InvalidSignature):
        return False
    return True


def instant(text: str) -> datetime:
    """Read a time of an action: ``YYMMDDHHMMSSZ``, ``YYYYMMDDHHMMSSZ`` or ISO 8601, in UTC.

    Raises:
        HostFault: none of these; or before 1950, as no certificate is, or after 9000.
    """
    parsed = _parse_instant(text)
    if parsed is None or parsed.tzinfo is None:
        raise HostFault(f"{text[:60]} is no time, want YYMMDDHHMMSSZ or ISO 8601 with a zone")
    if not 1950 <= parsed.year <= 9000:
        raise HostFault(f"{text[:60]}: want a year of 1950 to 9000, got {parsed.year}")
    return parsed


def _parse_instant(text: str) -> datetime | None:
    for form in (
        "%y%m%d%H%M%SZ",
        "%Y%m%d%H%M%SZ",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%dT%H:%M:%S.%fZ",
        "%Y-%m-%d %H:%M:%S",
    ):
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
