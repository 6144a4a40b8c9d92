"""Verify attestation tokens offline, as a relying party: key, issuer, audience, nonce and time.

An attestation service's token is a JWT in Azure Attestation's format, or an EAR as a JWT or a CWT. The same
checks apply to all three: a key that the relying party already has, an issuer, an audience, a nonce and the
time.

Spec: RFC 7519, RFC 8725 (JWT); RFC 8392 (CWT); draft-ietf-rats-ear-04; Microsoft Azure Attestation,
"Attestation Token".
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from kluis.appraisal.tokens import signed_claims, signing
from kluis.appraisal.tokens.ear import Ear
from kluis.appraisal.tokens.token_keys import PublicKey, TrustedKey
from kluis.errors import AuthenticityError, FormatError, FreshnessError, UsageError
from kluis.formats.encoding import cbor
from kluis.formats.ietf import cose
from kluis.frozen import frozen

SKEW: Final = timedelta(seconds=signed_claims.SKEW_SECONDS)
KIND: Final = "x-ms-attestation-type"
MOST_SHOWN: Final = 200
MAX_TIME: Final = 253402300799  # the last second of the year 9999
_COSE_KEY_ID: Final = 4
_CWT_LABELS: Final = {1: "iss", 2: "sub", 3: "aud", 4: "exp", 5: "nbf", 6: "iat", 7: "cti"}
_CWT_NAMES: Final = frozenset(_CWT_LABELS.values())


class Form(enum.StrEnum):
    """The format of a token."""

    AZURE = "azure"
    EAR_JWT = "ear-jwt"
    EAR_CWT = "ear-cwt"


@frozen
class Expected:
    """The relying party's expectations of a token.

    Attributes:
        issuer: required; None only for a token without an issuer.
        audience: required; None only for a token without an audience.
        nonce: that was given to the attester; None accepts any.
    """

    issuer: str | None
    audience: str | None
    nonce: str | None


@frozen
class Token:
    """A verified token. Apart from an EAR's status, its claims about the attester are for a policy to judge.

    Attributes:
        form: of the token.
        key: that signed it.
        expires_at: end of validity.
        claims: all of them, unchanged; those of a CWT under the JWT's names if there are any.
        ear: parsed, if it is an EAR.
    """

    form: Form
    key: TrustedKey
    expires_at: datetime
    claims: Mapping[str, Any]
    ear: Ear | None


def verify(data: bytes, keys: Sequence[TrustedKey], expected: Expected, now: datetime) -> Token:
    """Verify an attestation token.

    1. It is a JWT or a CWT, within bounds.
    2. One of ``keys`` signed it, by an algorithm of its kind: the key that ``kid`` names, or the only one if
       it has no name. A ``jku``, ``jwk`` or ``x5c`` in a header provides no key, and may only agree.
    3. It is an attestation result: an EAR, or claims that name the attestation type.
    4. ``iss`` is the issuer.
    5. ``aud`` has the audience.
    6. ``iat`` and ``nbf`` have passed, within a minute, and ``exp`` has not.
    7. The nonce is the one given to the attester.

    Args:
        data: compact serialization, or COSE.
        keys: from a source that the relying party trusts.
        expected: its expectations.
        now: aware.

    Raises:
        FormatError: step 1 or 3, or a claim of another kind.
        AuthenticityError: step 2, 4, 5 or 7.
        FreshnessError: step 6.
        UsageError: a claim without an expectation, or a naive ``now``.
    """
    if now.tzinfo is None:
        raise UsageError("now: want an aware time, got a naive one")
    text = _text(data)
    token = _cwt(data, keys, now) if text is None else _jwt(text, keys, expected, now)  # 1 to 3
    _hold("iss", expected.issuer, token.claims.get("iss"), "--issuer")  # 4
    _hold("aud", expected.audience, token.claims.get("aud"), "--audience")  # 5
    _in_time(token.claims, now)  # 6
    if expected.nonce is not None and not _has_nonce(token, expected.nonce):  # 7
        raise AuthenticityError(
            f"token nonce: want {expected.nonce[:MOST_SHOWN]!a}, got {_nonces(token)}", code="token_nonce"
        )
    return token


def _text(data: bytes) -> str | None:
    """A JWT's text; None for bytes that are not text, such as a CWT."""
    try:
        text = data.strip().decode("ascii")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def _jwt(text: str, keys: Sequence[TrustedKey], expected: Expected, now: datetime) -> Token:
    header, claims = signed_claims.peek(text)
    if header.get("typ") == signing.JWT_TYPE or "eat_profile" in claims:
        chosen = _choose_key(keys, header.get("kid"))
        chosen.allow(header.get("alg"))
        ear = signing.verify_jwt(text, chosen.key, now=now)
        return Token(Form.EAR_JWT, chosen, _end(claims), claims, ear)
    ring = _Ring(keys, expected.issuer)
    checked = signed_claims.check(text, ring, now)
    kind = checked.claims.get(KIND)
    if not isinstance(kind, str) or not kind:
        # The same key signs a service's statements about its policies, which are not attestations.
        raise FormatError(f"token {KIND}: want text, got {_format_claim(kind)}", code="token_kind")
    chosen = _choose_key(keys, header.get("kid"))
    return Token(Form.AZURE, chosen, _end(checked.claims), checked.claims, None)


def _cwt(data: bytes, keys: Sequence[TrustedKey], now: datetime) -> Token:
    message = cose.Sign1.parse(data, "CWT", max_size=signing.MAX_SIZE)
    named = message.headers.get(_COSE_KEY_ID, message.unprotected.get(_COSE_KEY_ID))
    chosen = _choose_key(keys, named.decode("latin-1") if isinstance(named, bytes) else None)
    key = _on_a_curve(chosen.key)
    chosen.allow(message.scheme("CWT").name)
    ear = signing.verify_cwt(data, key, now=now)
    value: Any = cbor.loads(message.payload, "EAR", max_size=signing.MAX_SIZE)  # a map, as its reader found
    # Text that looks like the name of a numeric claim is not that claim, whether that claim is present or
    # not.
    claims = {
        _CWT_LABELS.get(label, str(label)): each for label, each in value.items() if label not in _CWT_NAMES
    }
    return Token(Form.EAR_CWT, chosen, _end(claims), claims, ear)


class _Ring:
    """The keys of a single authority."""

    def __init__(self, keys: Sequence[TrustedKey], issuer: str | None) -> None:
        self._keys = keys
        self._issuer = issuer

    def key(self, issuer: str, kid: str, now: datetime) -> TrustedKey:
        """The key of that name, for the expected issuer."""
        if self._issuer is None or signed_claims.origin(self._issuer) != issuer:
            _hold("iss", self._issuer, issuer, "--issuer")
        return _choose_key(self._keys, kid)


def _choose_key(keys: Sequence[TrustedKey], kid: object) -> TrustedKey:
    for each in keys:
        if each.kid == kid or (not each.kid and len(keys) == 1):
            return each
    if kid is None and len(keys) == 1:
        return keys[0]
    wanted = ", ".join(repr(each.kid[:64]) for each in keys[:8])
    raise AuthenticityError(f"token kid: want one of {wanted}, got {_format_claim(kid)}", code="token_kid")


def _on_a_curve(key: PublicKey) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise AuthenticityError("CWT: want the key of its algorithm, ECDSA, got an RSA key", code="sig_token")
    return key


def _hold(claim: str, wanted: str | None, got: object, option: str) -> None:
    """Compare a claim with its expectation: present if and only if expected, and equal."""
    if wanted is None and got is None:
        return
    if wanted is None:
        raise UsageError(
            f"token {claim}: want {option} to compare it with, got nothing; "
            f"the token contains {_format_claim(got)}",
            hint=f"{option} VALUE, from the service's operator, not from the token",
        )
    values = got if claim == "aud" and isinstance(got, list) else [got]
    if not any(isinstance(each, str) and _same(claim, wanted, each) for each in values):
        raise AuthenticityError(
            f"token {claim}: want {wanted[:MOST_SHOWN]!a}, got {_format_claim(got)}",
            hint=f"an EAR need not name its issuer: leave {option} out; --root has its key checked"
            if claim == "iss" and got is None
            else None,
            code="token_iss" if claim == "iss" else "token_aud",
        )


def _same(claim: str, wanted: str, got: str) -> bool:
    if wanted == got:
        return True
    try:
        return claim == "iss" and signed_claims.origin(wanted) == signed_claims.origin(got)
    except FormatError:
        return False


def _in_time(claims: Mapping[str, Any], now: datetime) -> None:
    """Check the times that not every format's own verifier checks; all check ``exp``."""
    for claim in ("iat", "nbf"):
        if claim in claims and _time(claims, claim) - now > SKEW:
            raise FreshnessError(
                f"token {claim}: want one by {now:%Y-%m-%dT%H:%M:%SZ}, got "
                f"{_time(claims, claim):%Y-%m-%dT%H:%M:%SZ}",
                code="token_not_yet_valid",
            )


def _end(claims: Mapping[str, Any]) -> datetime:
    return _time(claims, "exp")


def _time(claims: Mapping[str, Any], claim: str) -> datetime:
    value = claims.get(claim)
    if type(value) is not int or not 0 <= value <= MAX_TIME:
        raise FormatError(f"token {claim}: want a time in whole seconds, got {_format_claim(value)}")
    return datetime.fromtimestamp(value, UTC)


def _has_nonce(token: Token, wanted: str) -> bool:
    """An EAR's nonce is bytes: those of the given text, or decoded from hex."""
    if token.ear is None:
        got = token.claims.get("nonce")
        # The given nonce may not be text: a command line's bytes that are not UTF-8.
        meaning = wanted.encode("utf-8", "surrogatepass")
        return type(got) in (str, int) and hmac.compare_digest(str(got).encode(), meaning)
    meant = {wanted.encode("utf-8", "surrogateescape")}
    if len(wanted) % 2 == 0 and all(sign in "0123456789abcdefABCDEF" for sign in wanted):
        meant.add(bytes.fromhex(wanted))
    return all(each.nonce in meant for each in token.ear.submods.values())


def _nonces(token: Token) -> str:
    if token.ear is None:
        return _format_claim(token.claims.get("nonce"))
    return ", ".join(
        "none" if each.nonce is None else each.nonce.hex() for each in token.ear.submods.values()
    )


def _format_claim(value: object) -> str:
    return "none" if value is None else ascii(value)[:MOST_SHOWN]
