"""Authenticate a client by another issuer's assertion: ``WorkloadIdentityCredential``,
``ClientAssertionCredential``.

Nothing is fetched: the other issuer's keys are in the file that registers it. A cluster writes such a token
to a file, and it is reused until it expires, so its ``jti`` is not checked. Spec: RFC 7523; Microsoft Entra,
"Workload identity federation".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Self

import msgspec

from kluis.appraisal.tokens import token_keys
from kluis.appraisal.tokens.token_keys import TrustedKey
from kluis.errors import KluisError, UsageError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.serve.issuer.assertion import Assertion, check_signature, check_times
from kluis.serve.issuer.refusals import refusal, show
from kluis.services.web import Refusal

AUDIENCE: Final = "api://AzureADTokenExchange"
# The audience that Microsoft Entra accepts.
ALGORITHM: Final = "RS256"
MOST_TEXT: Final = 600


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: ``client``, ``issuer``, ``subject``, ``jwks``, and ``audience``, which has a default."""

    client: str
    issuer: str
    subject: str
    jwks: dict[str, Any]
    audience: str = AUDIENCE


class Federated:
    """One subject of another issuer, and the client that it authenticates.

    Args:
        document: from the file.
        keys: of the issuer, by name.
    """

    def __init__(self, document: _Document, keys: Mapping[str, TrustedKey]) -> None:
        self.client = document.client
        self.issuer = document.issuer
        self.subject = document.subject
        self.audience = document.audience
        self.keys = keys

    @classmethod
    def of_json(cls, data: bytes, what: str) -> Self:
        """Read one from a file.

        Raises:
            UsageError: another shape, or its keys are not an issuer's public keys.
        """
        try:
            document = msgspec.json.decode(data, type=_Document)
            keys = token_keys.read(msgspec.json.encode(document.jwks), certified=False)
        except (*UNREADABLE, KluisError) as error:
            raise UsageError(f"{what}: {error}") from None
        texts = (document.client, document.issuer, document.subject, document.audience)
        if not all(1 <= len(one) <= MOST_TEXT for one in texts) or not document.issuer.startswith("https://"):
            raise UsageError(
                f"{what}: want client, subject, audience, and an issuer that is an https URL, of 1 to"
                f" {MOST_TEXT} characters each"
            )
        if not any(ALGORITHM in key.algorithms for key in keys.values()):
            raise UsageError(f"{what}: want a key that signs by {ALGORITHM}, got none")
        return cls(document, keys)


def check(assertion: Assertion, client: str, registered: Sequence[Federated], now: datetime) -> None:
    """Check another issuer's assertion.

    1. The algorithm is RS256.
    2. ``iss`` is an issuer registered for this client.
    3. The issuer's key that the header's ``kid`` names signed it; its ``jwk``, ``jku`` or ``x5c`` are
       ignored.
    4. ``sub`` is exactly the registered one.
    5. ``aud`` is only the registered one.
    6. ``exp`` and ``nbf`` are valid.

    Raises:
        Refusal: a step fails; names it, with want and got.
    """
    if assertion.algorithm != ALGORITHM:  # 1
        raise refusal(
            "invalid_client", f"client assertion alg: want {ALGORITHM}, got {show(assertion.algorithm)}"
        )
    issuer = assertion.claims.get("iss")
    theirs = [one for one in registered if one.issuer == issuer]
    if not theirs:  # 2
        raise _mismatch("iss", client, [one.issuer for one in registered], issuer, 700211)
    signers = _signers(assertion, theirs)  # 3
    subject = assertion.claims.get("sub")
    named = [one for one in signers if one.subject == subject]
    if not named:  # 4
        raise _mismatch("sub", client, [one.subject for one in signers], subject, 700213)
    audience = assertion.claims.get("aud")
    if not any(audience in (one.audience, [one.audience]) for one in named):  # 5
        raise _mismatch("aud", client, [one.audience for one in named], audience, 700212)
    check_times(assertion, now)  # 6


def _signers(assertion: Assertion, theirs: Sequence[Federated]) -> list[Federated]:
    """The registrations whose key signed it: two files may have the keys of one issuer at different times."""
    kid = assertion.header.get("kid")
    keys = [(one, one.keys[kid]) for one in theirs if isinstance(kid, str) and kid in one.keys]
    if not keys:
        want = " or ".join(sorted({name for one in theirs for name in one.keys}))
        raise refusal(
            "invalid_client", f"client assertion kid: want {want} of the registered keys, got {show(kid)}"
        )
    matching, mismatch = [], None
    for one, key in keys:
        try:
            check_signature(assertion, key)
        except Refusal as error:
            mismatch = error
        else:
            matching.append(one)
    if not matching and mismatch is not None:
        raise mismatch
    return matching


def _mismatch(claim: str, client: str, wanted: Sequence[str], got: object, number: int) -> Refusal:
    want = " or ".join(sorted(set(wanted)))
    return refusal(
        "invalid_client",
        f"client assertion {claim}: want {want}, as registered for {client}, got {show(got)}",
        number=number,
    )
