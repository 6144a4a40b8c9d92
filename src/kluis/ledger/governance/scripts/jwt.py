"""Issuers of tokens: the table of the keys that they sign with, by key id.

    jwt.public_signing_keys_metadata_v2   {kid: [{"issuer", "public_key": base64 of DER, "constraint"?}]}

Spec: CCF, "JWT Authentication", ``src/node/rpc/jwt_management.h``.
"""

from __future__ import annotations

from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.errors import FormatError
from kluis.formats.ccf import tables
from kluis.formats.ccf.values import read_json
from kluis.formats.encoding import b64
from kluis.ledger.certificates import NOT_READABLE
from kluis.ledger.governance.documents import write_json
from kluis.ledger.js import HostFault
from kluis.ledger.store import Transaction

MAX_KEYS: Final = 1000
_CURVES: Final[dict[str, type[ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1]]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
}


def set_keys(transaction: Transaction, issuer: str, jwks: Any) -> None:
    """Replace the keys of an issuer.

    Raises:
        HostFault: a key is missing a part, or is of a kind that is not supported.
    """
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= MAX_KEYS:
        raise HostFault("the key set of an issuer has no keys, or more than 1,000")
    by_kid: dict[str, dict[str, Any]] = {}
    for jwk in keys:
        if not isinstance(jwk, dict) or not isinstance(kid := jwk.get("kid"), str) or not kid:
            raise HostFault("a key of an issuer has no kid")
        entry: dict[str, Any] = {"issuer": issuer, "public_key": b64.encode(_public_key(jwk))}
        if (constraint := jwk.get("issuer")) is not None:
            entry["constraint"] = _constraint(issuer, constraint)
        if by_kid.setdefault(kid, entry) != entry:
            raise HostFault(f"two keys of an issuer have the kid {kid[:100]}")
    for raw, entries in _read_stored(transaction):
        others = [each for each in entries if each.get("issuer") != issuer]
        if (kid := raw.decode(errors="replace")) in by_kid:
            others.append(by_kid.pop(kid))
        _put(transaction, raw, entries, others)
    for kid, entry in by_kid.items():
        transaction.put(tables.JWT_KEYS, kid.encode(), write_json([entry]))


def remove_keys(transaction: Transaction, issuer: str) -> None:
    """Remove the keys of an issuer."""
    for raw, entries in _read_stored(transaction):
        _put(transaction, raw, entries, [each for each in entries if each.get("issuer") != issuer])


def _put(transaction: Transaction, key: bytes, before: list[Any], after: list[Any]) -> None:
    if not after:
        transaction.remove(tables.JWT_KEYS, key)
    elif after != before:
        transaction.put(tables.JWT_KEYS, key, write_json(after))


def _read_stored(transaction: Transaction) -> list[tuple[bytes, list[dict[str, Any]]]]:
    return [(key, read_json(data, tables.JWT_KEYS)) for key, data in list(transaction.items(tables.JWT_KEYS))]


def _public_key(jwk: dict[str, Any]) -> bytes:
    try:
        if jwk.get("x5c"):
            key: Any = x509.load_der_x509_certificate(b64.decode(str(jwk["x5c"][0]), "x5c")).public_key()
        elif jwk.get("kty") == "RSA":
            key = rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()
        else:
            curve = _CURVES[str(jwk["crv"])]()
            key = ec.EllipticCurvePublicNumbers(_number(jwk["x"]), _number(jwk["y"]), curve).public_key()
    except (*NOT_READABLE, KeyError, IndexError, FormatError):
        raise HostFault("a key of an issuer is neither a certificate nor a whole RSA or EC key") from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise HostFault("a key of an issuer is of a kind that is not supported")
    der: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der


def _number(text: Any) -> int:
    return int.from_bytes(b64.decode_url(str(text), "number"), "big")


def _constraint(issuer: str, constraint: Any) -> str:
    """What a token's ``iss`` must be: of the issuer's own host, or below it."""
    host, of = _host(issuer), _host(constraint if isinstance(constraint, str) else "")
    if not isinstance(constraint, str) or not host or not (of == host or of.endswith("." + host)):
        raise HostFault("a key's issuer is of another host than the issuer that it belongs to")
    return constraint


def _host(url: str) -> str:
    return url.removeprefix("https://").partition("/")[0].lower()
