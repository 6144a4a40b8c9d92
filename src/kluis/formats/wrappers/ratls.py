"""Parse RA-TLS: evidence in an extension of a TLS certificate. Nothing here is verified.

The quote binds the certificate's public key, and so the other end of a TLS connection; names, times and the
signature of the certificate prove nothing.

Spec: Gramine, "RA-TLS"; CCC "Interoperable RA-TLS" (TCG DICE tagged evidence, CBOR tag 60000).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from kluis.errors import AuthenticityError, UnsupportedError
from kluis.formats.encoding import cbor
from kluis.frozen import frozen

# Gramine's identifier is Intel's whole element used as contents: a mistake that has become the format.
GRAMINE_OIDS: Final = ("0.6.9.42.840.113741.1337.6", "1.2.840.113741.1337.6")
DICE_OID: Final = "2.23.133.5.4.9"

TAG: Final = 60000
MAX_SIZE: Final = 64 << 10
_HASHES: Final = {1: "sha256", 7: "sha384", 8: "sha512"}
_WHAT: Final = "RA-TLS evidence"


@frozen
class RaTls:
    """Evidence from a certificate.

    Attributes:
        evidence: a quote.
        bound: the bytes whose SHA-256, followed by 32 zero bytes, is the quote's report data.
    """

    evidence: bytes
    bound: bytes


def read(extensions: Mapping[str, bytes], spki: bytes) -> RaTls | None:
    """Read evidence from a certificate's extensions; tagged evidence is preferred over a raw quote.

    Args:
        extensions: of the certificate, by identifier.
        spki: DER of the certificate's SubjectPublicKeyInfo.

    Returns:
        None if there is no such extension.

    Raises:
        FormatError: malformed.
        UnsupportedError: tagged evidence of another shape.
        AuthenticityError: the claims name another key than the certificate's.
    """
    if DICE_OID in extensions:
        return _parse_tagged(extensions[DICE_OID], spki)
    for name in GRAMINE_OIDS:
        if name in extensions:
            return RaTls(extensions[name], spki)
    return None


def _parse_tagged(data: bytes, spki: bytes) -> RaTls:
    match cbor.loads(data, _WHAT, tags=(TAG,), max_size=MAX_SIZE):
        case cbor.Tagged(tag=60000, value=[bytes(quote), bytes(claims)]):
            pass
        case _:
            raise UnsupportedError(f"{_WHAT}: want tag {TAG} of a quote and claims", code="bad_type")
    match cbor.loads(claims, f"{_WHAT}.claims"):
        case {"pubkey-hash": bytes(entry), **more} if not more:
            pass
        case _:
            raise UnsupportedError(f"{_WHAT}.claims: want one member, pubkey-hash", code="bad_type")
    match cbor.loads(entry, f"{_WHAT}.claims.pubkey-hash"):
        case [int(number), bytes(digest)] if number in _HASHES:
            pass
        case _:
            raise UnsupportedError(
                f"{_WHAT}.claims.pubkey-hash: want a pair of an algorithm of {sorted(_HASHES)} and a digest",
                code="bad_type",
            )
    if digest != hashlib.new(_HASHES[number], spki).digest():
        raise AuthenticityError(
            f"{_WHAT}.claims.pubkey-hash: is not of the certificate's key", code="key_binding"
        )
    return RaTls(quote, claims)
