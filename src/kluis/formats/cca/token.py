"""Arm CCA tokens: a realm's token and that of the platform under it. Nothing here is verified.

    CCA token = #6.399({ 44234: bstr .cbor COSE_Sign1 of the platform, 44241: the same of the realm })

Spec: draft-ffm-rats-cca-token, "CCA Attestation Token". Tokens of both generations, and mixed ones,
are read: each of the two parts says which it is of.
"""

from __future__ import annotations

import dataclasses
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats import cbor
from kluis.formats._entries import Entries
from kluis.formats.cbor import Tagged
from kluis.formats.cose import CURVES, Sign1

MAX_SIZE: Final = 32 * 1024
TAG: Final = 399
PLATFORM: Final = 44234
REALM: Final = 44241
_NAMES: Final = {PLATFORM: "platform", REALM: "realm"}
_PARTS: Final = range(1, MAX_SIZE)
_WHAT: Final = "CCA token"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token's two parts, each a COSE_Sign1.

    Attributes:
        platform: whose payload :class:`kluis.formats.cca.platform.Platform` reads.
        realm: whose payload :class:`kluis.formats.cca.realm.Realm` reads.
        platform_first: whether the platform's part stands first.
    """

    platform: bytes
    realm: bytes
    platform_first: bool = True

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read one token, at most 32 KiB.

        Raises:
            FormatError: not a token, or bytes after it.
        """
        value = cbor.loads(data, _WHAT, tags=(TAG,), max_size=MAX_SIZE)
        if not isinstance(value, Tagged):
            raise FormatError(f"{_WHAT}: want tag {TAG}, got none", code="bad_type")
        parts = Entries(value.value, _WHAT, _NAMES)
        parts.only((PLATFORM, REALM))
        return cls(
            platform=parts.octets(PLATFORM, _PARTS),
            realm=parts.octets(REALM, _PARTS),
            platform_first=next(iter(parts)) == PLATFORM,
        )

    def encode(self) -> bytes:
        """Write the token: the bytes it was read from."""
        parts: dict[cbor.Key, cbor.Value] = {PLATFORM: self.platform, REALM: self.realm}
        if not self.platform_first:
            parts = dict(reversed(parts.items()))
        return cbor.dumps(Tagged(TAG, parts))


def message(data: bytes, what: str) -> Sign1:
    """Read a part: the algorithm in its protected header, no other header, a signature of its size.

    Raises:
        UnsupportedError: another algorithm.
        FormatError: not such a message.
    """
    read = Sign1.parse(data, what)
    size = 2 * CURVES[read.scheme(what)].size
    if len(read.headers) != 1 or read.unprotected:
        raise FormatError(f"{what}: want an algorithm, and no other header", code="bad_type")
    if len(read.signature) != size:
        raise FormatError(f"{what}.signature: is {len(read.signature)} bytes, want {size}", code="bad_length")
    return read
