"""RA-TLS: evidence in an extension of a TLS certificate. Nothing here is verified.

The quote binds the certificate's public key, and so the other end of a TLS connection; names, times
and signature of the certificate prove nothing.

Spec: Gramine, "RA-TLS"; CCC "Interoperable RA-TLS" (TCG DICE tagged evidence, CBOR tag 60000).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats._reader import Reader

# Gramine's identifier is Intel's whole element taken for contents: a mistake that has become the format.
GRAMINE_OIDS: Final = ("0.6.9.42.840.113741.1337.6", "1.2.840.113741.1337.6")
DICE_OID: Final = "2.23.133.5.4.9"
OIDS: Final = (*GRAMINE_OIDS, DICE_OID)

_TAGGED: Final = bytes.fromhex("d9ea6082")  # tag 60000 of an array of two
_CLAIMS: Final = bytes.fromhex("a1") + b"\x6bpubkey-hash"
_HASHES: Final = {1: ("sha256", 32), 7: ("sha384", 48), 8: ("sha512", 64)}
_WHAT: Final = "RA-TLS evidence"


@dataclass(frozen=True, slots=True)
class RaTls:
    """Evidence out of a certificate.

    Attributes:
        evidence: a quote.
        bound: what the quote's report data are the SHA-256 of, and 32 zero bytes.
    """

    evidence: bytes
    bound: bytes


def read(extensions: Mapping[str, bytes], spki: bytes) -> RaTls | None:
    """Read evidence from a certificate's extensions; tagged evidence before a raw quote.

    Args:
        extensions: of the certificate, by identifier.
        spki: DER of the certificate's SubjectPublicKeyInfo.

    Returns:
        None where there is no such extension.

    Raises:
        FormatError: malformed, or the claims name another key than the certificate's.
    """
    if DICE_OID in extensions:
        return _tagged(extensions[DICE_OID], spki)
    for name in GRAMINE_OIDS:
        if name in extensions:
            return RaTls(extensions[name], spki)
    return None


def _tagged(data: bytes, spki: bytes) -> RaTls:
    reader = Reader(data, _WHAT, byte_order="big")
    if reader.take(len(_TAGGED), "tag") != _TAGGED:
        raise UnsupportedError(
            f"{_WHAT}.tag at 0x0: want {_TAGGED.hex()}, tag 60000 of a quote and claims, "
            f"got {data[: len(_TAGGED)].hex()}",
            code="bad_type",
        )
    quote, claims = _bytes(reader, "quote"), _bytes(reader, "claims")
    reader.end()
    _check_claims(claims, spki)
    return RaTls(quote, claims)


def _check_claims(claims: bytes, spki: bytes) -> None:
    """Claims are one map of one member: a hash of the certificate's key."""
    reader = Reader(claims, f"{_WHAT}.claims", byte_order="big")
    if reader.take(len(_CLAIMS), "map") != _CLAIMS:
        raise UnsupportedError(f"{_WHAT}.claims at 0x0: want one member, pubkey-hash", code="bad_type")
    entry = Reader(_bytes(reader, "pubkey-hash"), f"{_WHAT}.claims.pubkey-hash", byte_order="big")
    reader.end()
    head, number = entry.u8("array"), entry.u8("algorithm")
    if head != 0x82 or number not in _HASHES:
        raise UnsupportedError(
            f"{_WHAT}.claims.pubkey-hash: want a pair of an algorithm of {sorted(_HASHES)} and a digest",
            code="bad_type",
        )
    digest = _bytes(entry, "digest")
    entry.end()
    name, size = _HASHES[number]
    if len(digest) != size or digest != hashlib.new(name, spki).digest():
        raise FormatError(f"{_WHAT}.claims.pubkey-hash: is not of the certificate's key", code="key_binding")


def _bytes(reader: Reader, field: str) -> bytes:
    """A CBOR byte string whose head is minimal."""
    at, head = reader.position, reader.u8(field)
    least = 0
    if 0x40 <= head < 0x58:
        size = head - 0x40
    elif head == 0x58:
        size, least = reader.u8(field), 24
    elif head == 0x59:
        size, least = reader.u16(field), 1 << 8
    elif head == 0x5A:
        size, least = reader.u32(field), 1 << 16
    else:
        raise FormatError(f"{reader.what}.{field} at {at:#x}: want a byte string", code="bad_type")
    if size < least:
        raise FormatError(f"{reader.what}.{field} at {at:#x}: length is not minimal", code="bad_encoding")
    return reader.take(size, field)
