"""Authenticate a client by an assertion signed with the key of a certificate, like ``CertificateCredential``.

Spec: RFC 7523; Microsoft Entra, "Application authentication certificate credentials"; RFC 7515, "x5t" and
"x5t#S256", which only select a registered certificate: ``x5c`` in a header is ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.appraisal.tokens.token_keys import RSA_BITS, TrustedKey
from kluis.errors import FormatError, UsageError
from kluis.formats.encoding import b64
from kluis.frozen import frozen
from kluis.serve.issuer.assertion import Assertion, check_signature, check_times
from kluis.serve.issuer.refusals import refusal, show

ALGORITHMS: Final = ("RS256", "PS256")
# Azure's clients make theirs valid for 10 or 30 minutes.
MOST_SECONDS: Final = 3600
MOST_JTI: Final = 256


@frozen
class Certificate:
    """A registered certificate of a client.

    Attributes:
        key: its key, named by the certificate's SHA-256, hex.
        sha1: of its DER, 20 bytes: only selects it.
        sha256: of its DER, 32 bytes.
        begin: start of its validity.
        end: end of its validity.
    """

    key: TrustedKey
    sha1: bytes
    sha256: bytes
    begin: datetime
    end: datetime

    @classmethod
    def of_pem(cls, data: bytes, what: str) -> Self:
        """The first certificate of a PEM file; a private key in the file is ignored.

        Raises:
            UsageError: there is none, or its key is not an RSA key of a supported size.
        """
        try:
            certificate = x509.load_pem_x509_certificates(data)[0]
            key = certificate.public_key()
        except (ValueError, TypeError, x509.InvalidVersion):
            raise UsageError(f"{what}: want a certificate, PEM") from None
        least, most = RSA_BITS
        if not isinstance(key, rsa.RSAPublicKey) or not least <= key.key_size <= most:
            raise UsageError(
                f"{what}: want a certificate of an RSA key of {least} to {most} bits, got another",
                hint="openssl req -x509 -newkey rsa:2048 -noenc -subj /CN=client -keyout key.pem"
                " -out cert.pem",
            )
        der = certificate.public_bytes(Encoding.DER)
        sha1, sha256 = hashlib.sha1(der, usedforsecurity=False).digest(), hashlib.sha256(der).digest()
        return cls(
            TrustedKey(sha256.hex(), key, der, None),
            sha1,
            sha256,
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )


def check(
    assertion: Assertion, client: str, registered: Sequence[Certificate], endpoint: str, now: datetime
) -> float:
    """Check an assertion that a client signed itself.

    1. The algorithm is RS256 or PS256.
    2. ``x5t`` or ``x5t#S256`` is present, and those present select one certificate of this client.
    3. The certificate is valid at ``now``.
    4. Its key signed the assertion.
    5. ``iss`` and ``sub`` are the client.
    6. ``aud`` is the token endpoint.
    7. ``exp`` and ``nbf`` are valid; at most an hour is left.
    8. ``jti`` is present: the caller checks whether it was seen before.

    Args:
        assertion: as parsed.
        client: ``client_id`` of the request.
        registered: the client's certificates.
        endpoint: the URL of the token endpoint.
        now: aware.

    Returns:
        ``exp``.

    Raises:
        Refusal: a step fails; names it, with want and got.
    """
    if assertion.algorithm not in ALGORITHMS:  # 1
        raise refusal(
            "invalid_client",
            f"client assertion alg: want {' or '.join(ALGORITHMS)}, got {show(assertion.algorithm)}",
        )
    named = _named_certificate(assertion, client, registered)  # 2
    if not named.begin <= now <= named.end:  # 3
        raise refusal(
            "invalid_client",
            f"certificate of {client}: want one that is valid at {now:%Y-%m-%d %H:%M}, got one from"
            f" {named.begin:%Y-%m-%d %H:%M} to {named.end:%Y-%m-%d %H:%M}",
        )
    check_signature(assertion, named.key, 700027)  # 4
    for claim in ("iss", "sub"):  # 5
        if assertion.claims.get(claim) != client:
            raise refusal(
                "invalid_client",
                f"client assertion {claim}: want the client_id {client},"
                f" got {show(assertion.claims.get(claim))}",
                number=700021,
            )
    if assertion.claims.get("aud") != endpoint:  # 6
        raise refusal(
            "invalid_client",
            f"client assertion aud: want {endpoint}, got {show(assertion.claims.get('aud'))}",
            number=700023,
        )
    end = check_times(assertion, now, MOST_SECONDS)  # 7
    jti = assertion.claims.get("jti")
    if not isinstance(jti, str) or not 1 <= len(jti) <= MOST_JTI:  # 8
        raise refusal(
            "invalid_client", f"client assertion jti: want 1 to {MOST_JTI} characters, got {show(jti)}"
        )
    return end


def _named_certificate(assertion: Assertion, client: str, registered: Sequence[Certificate]) -> Certificate:
    """The client's certificate that the header selects, by each of its two parameters that is present."""
    thumbprints = {name: assertion.header[name] for name in ("x5t", "x5t#S256") if name in assertion.header}
    if not thumbprints:
        raise refusal("invalid_client", "client assertion header: want x5t or x5t#S256, got none")
    candidates = list(registered)
    for name, value in thumbprints.items():
        try:
            thumbprint = b64.decode_either(value, name, most=32)
        except FormatError:
            thumbprint = b""
        candidates = [one for one in candidates if (one.sha1 if name == "x5t" else one.sha256) == thumbprint]
    if not candidates:
        want = " or ".join(one.sha256.hex() for one in registered) or "none"
        raise refusal(
            "invalid_client",
            f"client assertion header: want a certificate registered for {client} (SHA-256 {want}),"
            f" got {show(thumbprints)}",
            number=700027,
        )
    return candidates[0]
