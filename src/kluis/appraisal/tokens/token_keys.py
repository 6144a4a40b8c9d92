"""Parse the keys that sign an authority's tokens, from its JWKS document or one key in PEM.

Spec: RFC 7517; RFC 8725 (a key signs only with its own kind of algorithm); Azure Key Vault, which requires
``kid``, ``kty`` and ``x5c`` for each key that it fetches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from kluis.errors import AuthenticityError, FormatError, KluisError
from kluis.formats.encoding import b64, jcs
from kluis.formats.x509 import split_pem

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
MAX_JWKS: Final = 256 * 1024
MAX_KEYS: Final = 32
RSA_BITS: Final = (2048, 8192)
UNUSED: Final = ""  # no algorithm: of a key that its authority does not sign with
_PUBLISHED: Final = "the service publishes its keys: save the response of its /certs, and name that file"
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_NAMES: Final[Mapping[str, Callable[[], ec.EllipticCurve]]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
}
_HASHES: Final = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")


class TrustedKey:
    """One key of an authority, ready to verify.

    Args:
        kid: its name.
        key: the key.
        certificate: DER, if it was in one.
        algorithm: that its JWK names, if any; ``UNUSED`` prevents it from verifying anything.
    """

    __slots__ = ("algorithms", "certificate", "key", "kid")

    def __init__(self, kid: str, key: PublicKey, certificate: bytes | None, algorithm: str | None) -> None:
        own = _RSA_ALGORITHMS if isinstance(key, rsa.RSAPublicKey) else (_CURVES[key.curve.name],)
        self.kid = kid
        self.key = key
        self.certificate = certificate
        self.algorithms = own if algorithm is None else tuple(each for each in own if each == algorithm)

    def allow(self, algorithm: object) -> None:
        """Refuse an algorithm that this key does not use.

        Raises:
            AuthenticityError: another algorithm.
        """
        if algorithm not in self.algorithms:
            wanted = " or ".join(self.algorithms) or "none of this key"
            raise AuthenticityError(
                f"token alg: want {wanted}, got {str(algorithm)[:32]!a}", code="sig_token"
            )

    def check(self, algorithm: str, signed: bytes, signature: bytes) -> None:
        """Check one signature.

        Raises:
            AuthenticityError: another algorithm than this key's, or not its signature.
        """
        self.allow(algorithm)
        digest = _HASHES[algorithm[2:]]
        try:
            if isinstance(self.key, rsa.RSAPublicKey):
                self.key.verify(signature, signed, _padding(algorithm, digest), digest)
                return
            size = (self.key.key_size + 7) // 8
            if len(signature) != 2 * size:
                raise InvalidSignature
            r, s = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
            self.key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
        except InvalidSignature:
            name = f"the key {self.kid[:64]!a}" if self.kid else "the key that was given"
            raise AuthenticityError(f"token: is not signed by {name}", code="sig_token") from None


def read(
    document: bytes, *, certified: bool, vouched: Callable[[bytes], bytes] | None = None
) -> dict[str, TrustedKey]:
    """Read a JWKS document.

    Args:
        document: JSON, at most 256 KiB and 32 keys.
        certified: whether each key must be in a certificate.
        vouched: checks a certificate's evidence and returns the SubjectPublicKeyInfo that it certifies, DER;
            keys whose evidence fails are left out.

    Raises:
        FormatError: not a JWKS document, or a malformed key.
        AuthenticityError: the evidence of every key fails; with the reason for the first.
    """
    value = jcs.loads(document, "JWKS", max_size=MAX_JWKS, max_depth=8)
    keys = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(keys, list) or not 1 <= len(keys) <= MAX_KEYS:
        raise FormatError(f"JWKS: want 1 to {MAX_KEYS} keys, got another", hint=_PUBLISHED)
    made: dict[str, TrustedKey] = {}
    refused: KluisError | None = None
    for each in keys:
        if not isinstance(each, dict):
            raise FormatError("JWKS: want objects as keys, got another")
        try:
            one = _key(each, certified=certified or vouched is not None, vouched=vouched)
        except KluisError as error:
            if vouched is None:
                raise
            refused = refused or error
            continue
        if one.kid in made:
            raise FormatError(f"JWKS: want each kid once, got {one.kid[:64]!a} twice")
        made[one.kid] = one
    if not made and refused is not None:
        raise AuthenticityError(f"no key of the authority is its enclave's own: {refused.message}")
    return made


def of_pem(data: bytes) -> TrustedKey:
    """The key of a certificate, or a public key; its name is empty.

    Raises:
        FormatError: neither of them, or not a kind of key that signs tokens.
    """
    if data.lstrip().startswith(b"-----BEGIN CERTIFICATE-----"):
        (certificate,) = split_pem(data.strip() + b"\n", "certificate", most=1)
        return TrustedKey("", _key_of_certificate(certificate, None), certificate, None)
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise FormatError(
            "token key: want a certificate or a public key in PEM, got another", hint=_PUBLISHED
        ) from None
    return TrustedKey("", _usable(key, "token key"), None, None)


def _key(jwk: dict[str, Any], *, certified: bool, vouched: Callable[[bytes], bytes] | None) -> TrustedKey:
    kid, kty, algorithm = jwk.get("kid"), jwk.get("kty"), jwk.get("alg")
    if not isinstance(kid, str) or not 1 <= len(kid) <= 256 or kty not in ("RSA", "EC"):
        raise FormatError("JWK: want kid and kty, RSA or EC, got another")
    if any(name in jwk for name in ("d", "p", "q", "k")):
        raise FormatError("JWK: want a public key, got a private one")
    if algorithm is not None and not isinstance(algorithm, str):
        raise FormatError("JWK.alg: want text, got another")
    chain = jwk.get("x5c")
    if chain is None and certified:
        raise FormatError("JWK.x5c: want one, got none")
    certificate = None
    if chain is not None:
        if not isinstance(chain, list) or not 1 <= len(chain) <= 8:
            raise FormatError("JWK.x5c: want 1 to 8 certificates, got another")
        certificate = b64.decode_either(chain[0], "JWK.x5c", most=32 * 1024)
    named = _key_of_members(jwk) if "n" in jwk or "x" in jwk else None
    key = named if certificate is None else _key_of_certificate(certificate, vouched)
    if key is None or (named is not None and _spki(named) != _spki(key)):
        raise FormatError("JWK: want one key in it and its x5c, got two or none")
    if isinstance(key, rsa.RSAPublicKey) is not (kty == "RSA"):
        raise FormatError(f"JWK.kty: want its key's, got {kty}")
    return TrustedKey(kid, key, certificate, algorithm if _signs(jwk) else UNUSED)


def _signs(jwk: dict[str, Any]) -> bool:
    """Whether a key is for signing, or has no stated use: a key for encryption may belong to another
    party.
    """
    operations = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _key_of_members(jwk: dict[str, Any]) -> PublicKey:
    """Build the key from its members n and e, or crv, x and y."""
    try:
        if jwk.get("kty") == "RSA":
            n, e = (_number(jwk, each, 1024) for each in "ne")
            return _check_size(rsa.RSAPublicNumbers(e, n).public_key())
        x, y = (_number(jwk, each, 66) for each in "xy")
        curve = _NAMES.get(str(jwk.get("crv")))
        if curve is None:
            raise FormatError(f"JWK.crv: want one of {', '.join(_NAMES)}, got another")
        return ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
    except ValueError:
        raise FormatError("JWK: its members make no public key") from None


def _number(jwk: dict[str, Any], name: str, most: int) -> int:
    return int.from_bytes(b64.decode_either(jwk.get(name), f"JWK.{name}", most=most), "big")


def _key_of_certificate(certificate: bytes, vouched: Callable[[bytes], bytes] | None) -> PublicKey:
    # Check the evidence first: without it nothing else in a certificate is worth reading.
    spki = None if vouched is None else vouched(certificate)
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion, RecursionError):
        raise FormatError("JWK.x5c: want a certificate, got another") from None
    public_key = _usable(key, "JWK.x5c")
    if spki is not None and _spki(public_key) != spki:
        raise AuthenticityError("JWK.x5c: its evidence is for another key")
    return public_key


def _usable(key: object, what: str) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey):
        return _check_size(key)
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise FormatError(f"{what}: want an RSA key, or one on P-256, P-384 or P-521, got another")
    return key


def _check_size(key: rsa.RSAPublicKey) -> rsa.RSAPublicKey:
    least, most = RSA_BITS
    if not least <= key.key_size <= most:
        raise FormatError(f"JWK: want an RSA key of {least} to {most} bits, got {key.key_size}")
    return key


def _spki(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _padding(algorithm: str, digest: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    if algorithm.startswith("RS"):
        return padding.PKCS1v15()
    return padding.PSS(padding.MGF1(digest), digest.digest_size)
