"""Messages of the Nitro Security Module: the request for an attestation document, and its answer.

Spec: AWS "aws-nitro-enclaves-nsm-api", ``src/api``: CBOR, each message a map with its name as the only key.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding import cbor
from kluis.formats.encoding.reader import Reader
from kluis.formats.nitro.document import MAX_SIZE as MAX_DOCUMENT

MAX_REQUEST: Final = 0x1000
MAX_RESPONSE: Final = 0x3000
WHAT: Final = "NSM answer"
# {"Attestation": {"document": bytes}}, up to the length of the bytes.
_DOCUMENT: Final = b"\xa1\x6bAttestation\xa1\x68document"
_ERROR: Final = b"\xa1\x65Error"
_TEXT: Final = 0x60
_MOST_TEXT: Final = 23
_BYTES_U8: Final = 0x58
_BYTES_U16: Final = 0x59
# What fills a message buffer after the answer: erased or cleared memory.
_FILLING: Final = (b"\xff", b"\0")


def request_document(user_data: bytes) -> bytes:
    """Write a request for a document with ``user_data``, at most 512 bytes."""
    return cbor.dumps({"Attestation": {"user_data": user_data, "nonce": None, "public_key": None}})


def parse_document(data: bytes) -> bytes:
    """Return the document in an answer; only filling may follow it.

    Raises:
        FormatError: malformed, or the module refuses; names its error.
    """
    if len(data) > MAX_DOCUMENT:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_DOCUMENT}", code="too_large")
    r = Reader(data, WHAT, byte_order="big")
    if data.startswith(_ERROR):
        r.take(len(_ERROR), "error")
        size = r.u8("error size") - _TEXT
        if not 0 < size <= _MOST_TEXT:
            raise FormatError(f"{WHAT}.error: want text of 1..{_MOST_TEXT} bytes", code="bad_encoding")
        raise FormatError(f"{WHAT}: {r.take(size, 'error').decode('ascii', 'replace')!a}", code="bad_type")
    if not data.startswith(_DOCUMENT):
        raise FormatError(f"{WHAT}: want a document, got {data[:16].hex()}", code="bad_type")
    r.take(len(_DOCUMENT), "name")
    kind = r.u8("document head")
    if kind not in (_BYTES_U8, _BYTES_U16):
        raise FormatError(f"{WHAT}.document: want bytes, got {kind:#x}", code="bad_type")
    document = r.take(r.u16("size") if kind == _BYTES_U16 else r.u8("size"), "document")
    rest = r.take(r.left, "filling")
    if rest and (rest[:1] not in _FILLING or rest.strip(rest[:1])):
        raise FormatError(f"{WHAT}: {len(rest)} bytes follow it", code="trailing_data")
    return document
