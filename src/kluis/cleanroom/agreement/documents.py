"""Encode and decode a room's documents: typed structs to canonical JSON and back, strictly.

Every hash and signature in a room is over these bytes. Spec: RFC 8785, JSON Canonicalization Scheme.
"""

from __future__ import annotations

import datetime
from typing import Any, TypeVar

import msgspec

from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.hashes import sha256

MAX_BYTES = 4 * 1024 * 1024

T = TypeVar("T", bound="Document")


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of a room's documents: every field is named, unknown ones are refused, times are UTC."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, datetime.datetime) and value.utcoffset() != datetime.timedelta(0):
                raise ValueError(f"{name}: want a time in UTC, got {value}")


def encode(document: Document) -> bytes:
    """Write a document as canonical JSON."""
    return jcs.dumps(msgspec.to_builtins(document))


def decode(data: bytes, kind: type[T], what: str) -> T:
    """Decode an untrusted document.

    Args:
        data: at most 4 MiB; checked before it is parsed.
        kind: the expected struct.
        what: name for error messages.

    Raises:
        FormatError: too large, not of this kind, or not canonical.
    """
    value = jcs.loads_canonical(data, what, max_size=MAX_BYTES)
    try:
        document = msgspec.convert(value, type=kind)
    except msgspec.ValidationError as error:
        raise FormatError(f"{what}: {_sentence(error)}") from error
    if encode(document) != data:
        raise FormatError(f"{what}: want times and bytes in their one form (RFC 3339 with Z, padded base64)")
    return document


def hash_of(document: Document) -> str:
    """The hash of a document: the SHA-256 of its canonical JSON, 64 hex digits."""
    return sha256(encode(document)).hex()


def as_json(document: Document) -> Any:
    """The document as plain dicts and lists, for ``--json`` and for people."""
    return msgspec.to_builtins(document)


def _sentence(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
