"""Parse AWS Nitro attestation documents and write them back. Nothing here is verified.

A document is a COSE_Sign1 whose protected header is only ES384 and whose payload is a CBOR map. Documents of
an enclave and of an instance's NitroTPM share one PKI; the key of their PCRs distinguishes them.

Spec: AWS "Nitro Enclaves: Attestation Process" (aws-nitro-enclaves-nsm-api), "Attestation Document
Specification", "COSE and CBOR"; AWS EC2 "NitroTPM Attestation Document contents". Where they disagree with
genuine documents, this module follows the documents: an absent optional field is ``null``, and the map may be
of indefinite length.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Self, cast

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import cbor
from kluis.formats.encoding.entries import Entries
from kluis.formats.ietf.cose import Sign1
from kluis.frozen import frozen

MAX_SIZE: Final = 32 * 1024
MAX_CERTIFICATE: Final = 1024
MAX_AUTHORITIES: Final = 8
MAX_OPTIONAL: Final = 1024
PCR_SIZE: Final = 48
DIGEST: Final = "SHA384"
# The end of the year 9999: no later time can be represented.
MAX_TIMESTAMP: Final = 253_402_300_799_999
PROTECTED: Final = bytes.fromhex("a1013822")
_CERTIFICATE: Final = range(1, MAX_CERTIFICATE + 1)
_PUBLIC_KEY: Final = range(1, MAX_OPTIONAL + 1)
_OPTIONAL: Final = range(MAX_OPTIONAL + 1)
_OPTIONAL_KEYS: Final = ("public_key", "user_data", "nonce")


class DocumentKind(enum.StrEnum):
    """The kind of document; the value is the key of its PCRs."""

    ENCLAVE = "pcrs"
    NITROTPM = "nitrotpm_pcrs"

    @property
    def what(self) -> str:
        """Its name, for messages."""
        return _NAMES[self]


_NAMES: Final = {DocumentKind.ENCLAVE: "Nitro document", DocumentKind.NITROTPM: "NitroTPM document"}
_REQUIRED: Final = {
    kind: ("module_id", "digest", "timestamp", str(kind), "certificate", "cabundle") for kind in DocumentKind
}


@frozen(kw_only=True)
class Document:
    """A document's fields.

    Attributes:
        kind: of an enclave, or of a NitroTPM.
        module_id: ``i-`` and the instance, then ``-enc`` or ``-tpm`` and the module.
        timestamp: milliseconds since 1970, at least 1.
        pcrs: 1 to 32, of 48 bytes each, by index 0..31.
        certificate: DER of the leaf, 1..1024 bytes.
        cabundle: DER, root first, 1 to 8 of 1..1024 bytes each.
        public_key: 1..1024 bytes, or None.
        user_data: at most 1024 bytes, or None.
        nonce: at most 1024 bytes, or None.
        message: the COSE_Sign1 that contained it.
    """

    kind: DocumentKind
    module_id: str
    timestamp: int
    pcrs: Mapping[int, bytes]
    certificate: bytes
    cabundle: tuple[bytes, ...]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    message: Sign1

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse one document, at most 32 KiB, with tag 18 or none.

        Raises:
            UnsupportedError: another algorithm or digest.
            FormatError: not the document that AWS describes, or bytes after it.
        """
        message = Sign1.parse(data, "Nitro document", max_size=MAX_SIZE)
        if message.protected != PROTECTED:
            raise UnsupportedError(
                f"Nitro document.protected: want {PROTECTED.hex()}, only ES384, got"
                f" {message.protected[:16].hex()}",
                code="bad_type",
            )
        if message.unprotected:
            raise FormatError("Nitro document.unprotected: want nothing", code="bad_type")
        if len(message.signature) != 2 * PCR_SIZE:
            raise FormatError(
                f"Nitro document.signature: is {len(message.signature)} bytes, want 96", code="bad_length"
            )
        payload = cbor.loads(message.payload, "Nitro document.payload", indefinite_maps=True)
        kind = _kind(payload)
        fields = Entries(payload, _NAMES[kind])
        fields.only(_REQUIRED[kind], _OPTIONAL_KEYS)
        digest = fields.text("digest", limit=32)
        if digest != DIGEST:
            raise UnsupportedError(f"{fields.what}.digest: want {DIGEST}, got {digest!a}", code="bad_type")
        return cls(
            kind=kind,
            module_id=fields.text("module_id", limit=256),
            timestamp=fields.integer("timestamp", least=1, most=MAX_TIMESTAMP),
            pcrs=_pcrs(fields, kind),
            certificate=fields.octets("certificate", _CERTIFICATE),
            cabundle=fields.octets_array("cabundle", _CERTIFICATE, least=1, most=MAX_AUTHORITIES),
            public_key=fields.octets_or_none("public_key", _PUBLIC_KEY),
            user_data=fields.octets_or_none("user_data", _OPTIONAL),
            nonce=fields.octets_or_none("nonce", _OPTIONAL),
            message=message,
        )

    def encode(self) -> bytes:
        """Write the document: the bytes it was read from."""
        return self.message.encode()


def _kind(payload: cbor.Value) -> DocumentKind:
    if isinstance(payload, dict) and DocumentKind.NITROTPM in payload:
        return DocumentKind.NITROTPM
    return DocumentKind.ENCLAVE


def _pcrs(fields: Entries, kind: DocumentKind) -> Mapping[int, bytes]:
    values = fields.map(kind, least=1, most=32)
    for index, value in values.items():
        if type(index) is not int or not 0 <= index <= 31:
            raise FormatError(
                f"{fields.what}.{kind}: want an index 0..31, got {index!a:.40}", code="bad_encoding"
            )
        if type(value) is not bytes or len(value) != PCR_SIZE:
            raise FormatError(f"{fields.what}.{kind}.{index}: want {PCR_SIZE} bytes", code="bad_length")
    return cast("Mapping[int, bytes]", values)
