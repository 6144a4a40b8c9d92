"""Parse and link the certificates of policy signers, and find them among the trusted ones.

A chain comes from ``x5c``, the signer first. Each of its certificates is signed by the next, which must be a
CA. A single certificate only represents its key, whatever its issuer. Validity dates do not matter: a policy
outlives its signer's certificate. Spec: RFC 7515, "x5c"; RFC 5280, "Basic Path Validation", to the extent
described here.
"""

from __future__ import annotations

import binascii
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final

from kluis.errors import FormatError, KluisError
from kluis.evidence.engine import OPENSSL
from kluis.formats import x509
from kluis.formats.x509 import Certificate, KeyKind, Scheme
from kluis.services.attestation.faults import InvalidParameter

MOST_CERTIFICATES: Final = 5
_ALGORITHMS: Final = {
    KeyKind.RSA: "RS256",
    KeyKind.P256: "ES256",
    KeyKind.P384: "ES384",
    KeyKind.P521: "ES512",
}


def read_certificate(text: object, what: str) -> Certificate:
    """Parse one member of ``x5c``: base64 of DER.

    Raises:
        InvalidParameter: not a certificate.
    """
    if not isinstance(text, str) or len(text) > 2 * x509.certificate.MAX_CERTIFICATE:
        raise InvalidParameter(f"{what}: want base64 of a certificate")
    try:
        return x509.parse(binascii.a2b_base64(text.encode("ascii"), strict_mode=True), what)
    except FormatError as error:
        raise InvalidParameter(error.message, hint=error.hint) from None
    except ValueError:
        raise InvalidParameter(f"{what}: is not base64") from None


def chain_of(x5c: object, what: str) -> tuple[Certificate, ...]:
    """Parse ``x5c``, and check that each certificate is signed by the next.

    Raises:
        InvalidParameter: not a list of certificates, or a link fails.
    """
    if not isinstance(x5c, list) or not 1 <= len(x5c) <= MOST_CERTIFICATES:
        raise InvalidParameter(f"{what}: want a list of 1 to {MOST_CERTIFICATES} certificates")
    chain = tuple(read_certificate(each, f"{what}[{number}]") for number, each in enumerate(x5c))
    for child, issuer in itertools.pairwise(chain):
        if not _is_issued_by(child, issuer):
            raise InvalidParameter(
                f"{what}: Unable to find issuer certificate CN={issuer.common_name}: want a CA that signed "
                f"CN={child.common_name}"
            )
    return chain


def signer_chain(x5c: object, what: str) -> tuple[Certificate, ...]:
    """Parse the ``x5c`` of a new policy signer; its key must be one whose signatures are accepted.

    Raises:
        InvalidParameter: as for :func:`chain_of`, or the first certificate's key is not supported.
    """
    chain = chain_of(x5c, what)
    try:
        OPENSSL.key(chain[0].spki, Scheme[_ALGORITHMS[chain[0].public_key.kind]])
    except ValueError as error:
        raise InvalidParameter(f"{what}[0]: key of CN={chain[0].common_name}: {error}") from None
    return chain


def is_trusted(chain: Sequence[Certificate], anchors: Iterable[Certificate]) -> bool:
    """Whether a certificate of the chain is trusted, or a trusted CA issued it."""
    known = tuple(anchors)
    named = {each.der for each in known}
    if any(each.der in named for each in chain):
        return True
    return any(_is_issued_by(chain[-1], each) for each in known)


def jwk_of(chain: Sequence[Certificate]) -> dict[str, Any]:
    """The chain as a key of a JWKS document, without the key's own numbers, in Azure's form."""
    kind = chain[0].public_key.kind
    return {
        "alg": _ALGORITHMS[kind],
        "kty": "RSA" if kind is KeyKind.RSA else "EC",
        "use": "sig",
        "x5c": [binascii.b2a_base64(each.der, newline=False).decode() for each in chain],
    }


def _is_issued_by(child: Certificate, issuer: Certificate) -> bool:
    """Whether ``issuer`` is a CA, and signed ``child``."""
    if child.issuer != issuer.subject or not issuer.ca:
        return False
    try:
        return OPENSSL.key(issuer.spki, child.scheme).verify(child.signature, child.signed)
    except (KluisError, ValueError):
        return False
