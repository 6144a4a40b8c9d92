"""Sign attestation results as JWT or CWT tokens that contain an EAR, and verify such tokens.

A relying party needs :func:`verify_jwt` or :func:`verify_cwt`, the verifier's public key, and the time. The
key determines the algorithm: P-256 ES256, P-384 ES384, RSA RS256; a token's header may only agree.

Spec: draft-ietf-rats-ear-04; RFC 7515, RFC 7519 (JWT); RFC 8392 (CWT); RFC 9782 (media types).
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from kluis.appraisal.tokens import ear_claims
from kluis.appraisal.tokens.ear import PROFILE, Ear
from kluis.errors import AuthenticityError, FormatError, FreshnessError, UsageError
from kluis.formats.encoding import b64, cbor, jcs
from kluis.formats.ietf import cose
from kluis.hashes import sha256

MAX_SIZE: Final = 64 * 1024
JWT_TYPE: Final = "eat+jwt"
# Other signers write what RFC 7519 recommends, or nothing: the profile in the claims identifies the token.
_JWT_TYPES: Final = (JWT_TYPE, "JWT")
CWT_TYPE: Final = f'application/eat+cwt; eat_profile="{PROFILE}"'
SKEW: Final = timedelta(minutes=1)
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 4096
MAX_SIGNATURE: Final = MAX_RSA_BITS // 8
_COSE_TYPE: Final = 16
_COSE_KEY_ID: Final = 4
_ALGORITHMS: Final = {"secp256r1": "ES256", "secp384r1": "ES384"}
_HEADERS: Final = {"alg", "typ", "kid"}


def sign_jwt(ear: Ear, key: ec.EllipticCurvePrivateKey) -> str:
    """Sign an attestation result as a JWT.

    Args:
        ear: from ``kluis.appraisal.tokens.ear.of``.
        key: on P-256 or P-384.

    Raises:
        UsageError: a key on another curve.
    """
    public = key.public_key()
    algorithm = _algorithm(public)
    header = {"alg": algorithm, "kid": key_id(public), "typ": JWT_TYPE}
    payload = jcs.dumps(ear_claims.write(ear, numbers=False))
    return jws.serialize_compact(header, payload, ECKey.import_key(key), algorithms=[algorithm])


def sign_cwt(ear: Ear, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Sign an attestation result as a CWT, a COSE_Sign1 under tag 18.

    Args:
        ear: from ``kluis.appraisal.tokens.ear.of``.
        key: on P-256 or P-384.

    Raises:
        UsageError: a key on another curve.
    """
    payload = cbor.dumps(ear_claims.write(ear, numbers=True))
    headers: dict[int | str, cbor.Writable] = {
        _COSE_KEY_ID: key_id(key.public_key()).encode(),
        _COSE_TYPE: CWT_TYPE,
    }
    return cose.sign1(payload, key, headers)


def verify_jwt(token: str | bytes, key: PublicKeyTypes, *, now: datetime) -> Ear:
    """Verify a JWT that contains an attestation result.

    1. It is three parts of base64url, at most 64 KiB; the header is strict JSON and names no more than
       algorithm, type and key id.
    2. The algorithm is that of the key's curve, or RS256 for RSA, and the key signed the first two parts.
    3. The claims are an EAR of the supported profile.
    4. It was issued before ``now``, within a minute, and has not expired.

    Args:
        token: compact serialization.
        key: the verifier's, on P-256 or P-384, or RSA of 2048 to 4096 bits, such as an attestation service's;
            from a source that the relying party trusts.
        now: aware.

    Raises:
        FormatError: step 1 or 3.
        AuthenticityError: step 2.
        FreshnessError: step 4.
        UsageError: a key of another kind, on another curve or of another size, or a naive ``now``.
    """
    known = _of_verifier(key)
    if len(token) > MAX_SIZE:
        token = ""
    text = token if isinstance(token, str) else token.decode("latin-1")
    parts = text.split(".")
    if len(parts) != 3:
        raise FormatError(f"JWT: want three parts, at most {MAX_SIZE} bytes", code="bad_length")
    raw, payload, signature = (b64.decode_url(part, "JWT") for part in parts)  # 1
    header = jcs.loads(raw, "JWT header", max_depth=2)
    if (
        not isinstance(header, dict)
        or set(header) - _HEADERS
        or header.get("typ", JWT_TYPE) not in _JWT_TYPES
    ):
        raise FormatError(f"JWT header: want alg, kid and typ {JWT_TYPE}", code="bad_type")
    algorithm = _algorithm(known)
    try:  # 2
        good = header.get("alg") == algorithm and len(signature) <= MAX_SIGNATURE
        if good:
            verifying = (
                RSAKey.import_key(known) if isinstance(known, rsa.RSAPublicKey) else ECKey.import_key(known)
            )
            jws.deserialize_compact(text, verifying, algorithms=[algorithm])
    except (JoseError, ValueError):
        good = False
    if not good:
        raise AuthenticityError("JWT: is not signed by this verifier's key", code="sig_token")
    ear = ear_claims.read(jcs.loads(payload, "EAR"), numbers=False)  # 3
    _check_time(ear, now)  # 4
    return ear


def verify_cwt(token: bytes, key: PublicKeyTypes, *, now: datetime) -> Ear:
    """Verify a CWT that contains an attestation result.

    1. It is a strict COSE_Sign1 with an attached payload and a known algorithm in its protected header.
    2. The algorithm is that of the key's curve, and the key signed it.
    3. The claims are an EAR of the supported profile.
    4. It was issued before ``now``, within a minute, and has not expired.

    Args:
        token: tagged or not.
        key: the verifier's, on P-256 or P-384, from a source that the relying party trusts.
        now: aware.

    Raises:
        FormatError: step 1 or 3.
        AuthenticityError: step 2.
        FreshnessError: step 4.
        UsageError: a key of another kind or on another curve, or a naive ``now``.
    """
    known = _of_verifier(key)
    if isinstance(known, rsa.RSAPublicKey):
        raise UsageError("token key: want a public key on P-256 or P-384 for a CWT, got RSAPublicKey")
    _algorithm(known)
    message = cose.Sign1.parse(token, "CWT", max_size=MAX_SIZE)  # 1
    try:
        cose.check(message, known, "CWT")  # 2
    except AuthenticityError as error:
        raise AuthenticityError(error.message, code="sig_token") from None
    ear = ear_claims.read(cbor.loads(message.payload, "EAR", max_size=MAX_SIZE), numbers=True)  # 3
    _check_time(ear, now)  # 4
    return ear


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """The name of a verifier's key: the SHA-256 of its SubjectPublicKeyInfo, base64url."""
    return b64.encode_url(sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)))


def jwk(key: ec.EllipticCurvePublicKey) -> str:
    """A verifier's public key as a JWK, for relying parties."""
    value = ECKey.import_key(key).as_dict(private=False)
    return json.dumps({**value, "alg": _algorithm(key), "kid": key_id(key), "use": "sig"}, sort_keys=True)


def _check_time(ear: Ear, now: datetime) -> None:
    if now.tzinfo is None:
        raise UsageError("now: want an aware time, got a naive one")
    if ear.issued_at - now > SKEW:
        raise FreshnessError(
            f"attestation result: want one issued by {now:%Y-%m-%dT%H:%M:%SZ}, got "
            f"{ear.issued_at:%Y-%m-%dT%H:%M:%SZ}",
            code="token_not_yet_valid",
        )
    if ear.expires_at is not None and ear.expires_at <= now:
        raise FreshnessError(
            f"attestation result expired on {ear.expires_at:%Y-%m-%dT%H:%M:%SZ}, judged at "
            f"{now:%Y-%m-%dT%H:%M:%SZ}",
            hint="request a new one from the verifier",
            code="token_expired",
        )


def _of_verifier(key: object) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """Refuse keys that do not sign results: a PEM file may contain any kind."""
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise UsageError(
            f"token key: want a public key on P-256 or P-384, or RSA, got {type(key).__name__}",
            hint="openssl pkey -in KEY -pubout writes a private key's public half",
        )
    return key


def _algorithm(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise UsageError(f"token key: want {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, got {key.key_size}")
        return "RS256"
    try:
        return _ALGORITHMS[key.curve.name]
    except KeyError:
        raise UsageError(f"token key: want one on P-256 or P-384, got one on {key.curve.name}") from None
