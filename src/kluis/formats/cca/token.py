"""Parse Arm CCA tokens: a realm's token and the token of its platform. Nothing here is verified.

    CCA token = #6.907({ 44234: [263, bstr .cbor COSE_Sign1 of the platform], 44241: the same of the realm })
    before = #6.399({ 44234: bstr .cbor COSE_Sign1 of the platform, 44241: the same of the realm })

Spec: draft-ffm-rats-cca-token, "CCA Attestation Token": since its first revision a collection of conceptual
messages, of the content format "application/eat+cwt". Tokens of all generations are read, and mixed ones:
each of the two parts states its own generation.
"""

from __future__ import annotations

from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import cbor
from kluis.formats.encoding.cbor import Tagged
from kluis.formats.encoding.entries import Entries
from kluis.formats.ietf.cose import CURVES, Sign1
from kluis.frozen import frozen

MAX_SIZE: Final = 32 * 1024
TAG: Final = 399
COLLECTION: Final = 907
EAT_CWT: Final = 263
BEGINS: Final = (b"\xd9\x01\x8f", b"\xd9\x03\x8b")
PLATFORM: Final = 44234
REALM: Final = 44241
_NAMES: Final = {PLATFORM: "platform", REALM: "realm"}
_PARTS: Final = range(1, MAX_SIZE)
_WHAT: Final = "CCA token"


@frozen(kw_only=True)
class Token:
    """A token's two parts, each a COSE_Sign1.

    Attributes:
        platform: whose payload :class:`kluis.formats.cca.platform.Platform` reads.
        realm: whose payload :class:`kluis.formats.cca.realm.Realm` reads.
        platform_first: whether the platform's part comes first.
        tag: the token's form: ``COLLECTION``, or ``TAG`` for older tokens.
    """

    platform: bytes
    realm: bytes
    platform_first: bool = True
    tag: int = TAG

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse one token, at most 32 KiB.

        Raises:
            FormatError: not a token, or bytes after it.
        """
        value = cbor.loads(data, _WHAT, tags=(TAG, COLLECTION), max_size=MAX_SIZE)
        if not isinstance(value, Tagged):
            raise FormatError(f"{_WHAT}: want tag {TAG} or {COLLECTION}, got none", code="bad_type")
        parts = Entries(value.value, _WHAT, _NAMES)
        parts.only((PLATFORM, REALM))
        read = _message if value.tag == COLLECTION else _octets
        return cls(
            platform=read(parts, PLATFORM),
            realm=read(parts, REALM),
            platform_first=next(iter(parts)) == PLATFORM,
            tag=value.tag,
        )

    def encode(self) -> bytes:
        """Write the token: the bytes it was read from."""
        parts: dict[cbor.Key, cbor.Value] = {PLATFORM: self.platform, REALM: self.realm}
        if self.tag == COLLECTION:
            parts = {key: [EAT_CWT, part] for key, part in parts.items()}
        if not self.platform_first:
            parts = dict(reversed(parts.items()))
        return cbor.dumps(Tagged(self.tag, parts))


def matches(data: bytes) -> bool:
    """Whether bytes begin under one of the two tags."""
    return data[:3] in BEGINS


def _octets(parts: Entries, key: int) -> bytes:
    return parts.octets(key, _PARTS)


def _message(parts: Entries, key: int) -> bytes:
    what = f"{_WHAT}.{_NAMES[key]}"
    match parts.array(key, least=2, most=2):
        case [int(kind), bytes(content)] if kind == EAT_CWT and len(content) in _PARTS:
            return content
        case _:
            raise FormatError(f"{what}: want content format {EAT_CWT}, and bytes", code="bad_type")


def message(data: bytes, what: str) -> Sign1:
    """Parse one part: the algorithm in its protected header, no other header, and a signature of the
    algorithm's size.

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
