"""Conceptual message wrapper (CMW): evidence in several parts, each with its name and media type.

A part is ``["media type","base64url"]`` with an optional indicator of its purpose. A collection is an object
of parts, and of further collections. Only compact JSON is read, so what parses is written back as the same
bytes. Nothing here is verified: a wrapper is not signed, its parts are.

Spec: RFC 9999, "Record CMW" and "Collection CMW", in JSON; :mod:`kluis.formats.ietf.cmw_cbor` has the CBOR
form.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, Self

from kluis.errors import FormatError, UnsupportedError, UsageError
from kluis.formats.encoding import b64
from kluis.frozen import frozen

MAX_SIZE: Final = 16 << 20
MAX_PARTS: Final = 32
MAX_DEPTH: Final = 4
MAX_FORMAT: Final = 65535
OCTETS: Final = "application/octet-stream"
NESTED: Final = "application/cmw+json"

_LABELS: Final = r"(?!__cmwc_t\b)[A-Za-z0-9_.:/-]{1,64}"
# Quoted parameters, such as a profile's, are the only place where JSON of this form has backslashes.
_MEDIAS: Final = r'[a-z0-9!#$&^_.+-]{1,64}/(?:[A-Za-z0-9!#$&^_.+:;=,/@%~? -]|\\"){1,160}'
_URIS: Final = r"(?:[a-z][a-z0-9+.-]{0,31}:[!#-\[\]-~]{1,200}|[0-9]{1,10}(?:\.[0-9]{1,10}){1,24})"
_LABEL: Final = re.compile(_LABELS, re.ASCII)
_MEDIA: Final = re.compile(_MEDIAS.replace(r"\\", ""), re.ASCII)
_URI: Final = re.compile(_URIS, re.ASCII)
_START: Final = re.compile(
    rb'(?:\{"[A-Za-z0-9_.:/-]{1,64}":){0,3}'
    rb'\{"(?:__cmwc_t":"|[A-Za-z0-9_.:/-]{1,64}":\[(?:"[a-z0-9!#$&^_.+-]{1,64}/|[0-9]{1,5},"))'
)
_RECORD_START: Final = re.compile(rf'\[(?:"{_MEDIAS}"|[0-9]{{1,5}}),"'.encode())
_TYPED: Final = '"__cmwc_t":'
_URI_TEXT: Final = re.compile(f'"({_URIS})"', re.ASCII)
_KEY: Final = re.compile(f'"({_LABELS})":', re.ASCII)
_PART: Final = re.compile(rf'\["({_MEDIAS})","', re.ASCII)
_END: Final = re.compile(r'"(?:,([1-9][0-9]{0,2}))?\]')
_FORMAT: Final = re.compile(r'\[(0|[1-9][0-9]{0,4}),"')


class Indicator(enum.IntFlag):
    """The kinds of conceptual message that a part can contain."""

    REFERENCE_VALUES = 1
    ENDORSEMENTS = 2
    EVIDENCE = 4
    ATTESTATION_RESULTS = 8
    APPRAISAL_POLICY = 16


@frozen
class Part:
    """One part: bytes and their declared type.

    Attributes:
        media_type: such as ``application/octet-stream``, or the number of a content format, 0..65535; not
            trusted.
        value: the bytes.
        indicator: purpose of the part; None if it is not stated.

    Raises:
        UsageError: not a media type, or an indicator outside 1..31.
    """

    media_type: str | int
    value: bytes
    indicator: Indicator | None = None

    def __post_init__(self) -> None:
        if not is_type(self.media_type):
            raise UsageError(f"CMW: {str(self.media_type)[:64]!a} is no media type, and no content format")
        if self.indicator is not None and not 0 < self.indicator < 32:
            raise UsageError(f"CMW: want an indicator of 1..31, got {self.indicator:d}")

    @staticmethod
    def parse(data: bytes, what: str = "CMW record") -> Part:
        """Parse a single record.

        Raises:
            FormatError: not one record in compact JSON.
            UnsupportedError: a tunnel, which drafts before the RFC had.
        """
        reader = _Reader(data, what)
        part = reader.part(0)
        reader.end()
        return part

    def encode(self) -> bytes:
        """Write it as a single record."""
        end = f",{self.indicator:d}]" if self.indicator is not None else "]"
        kind = self.media_type
        shown = kind if isinstance(kind, int) else '"{}"'.format(kind.replace('"', '\\"'))
        return f'[{shown},"{b64.encode_url(self.value)}"{end}'.encode()


@frozen
class Nested(Part):
    """A collection within a collection; its value is its compact JSON."""

    def encode(self) -> bytes:
        """Write the compact JSON unchanged."""
        return self.value


@frozen
class Collection:
    """Parts by label, in their order.

    Attributes:
        parts: 1 to 32, by labels of 1 to 64 letters, digits and ``_.:/-``.
        type: of the collection, a URI or an object identifier; None if it is not stated.

    Raises:
        UsageError: another number of parts, or an invalid label or type.
    """

    parts: Mapping[str, Part]
    type: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.parts) <= MAX_PARTS:
            raise UsageError(f"CMW: want 1..{MAX_PARTS} parts, got {len(self.parts)}")
        for label in self.parts:
            if not _LABEL.fullmatch(label):
                raise UsageError(f"CMW: {label[:64]!a} is no label")
        if self.type is not None and not _URI.fullmatch(self.type):
            raise UsageError(f"CMW: {self.type[:64]!a} is neither a URI nor an object identifier")
        object.__setattr__(self, "parts", MappingProxyType(dict(self.parts)))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a collection in compact JSON: at most 16 MiB, 32 parts each, and 4 levels.

        Raises:
            FormatError: not a collection, or a repeated label.
            UnsupportedError: a part is a tunnel, which drafts before the RFC had.
        """
        reader = _Reader(data, "CMW collection")
        kind, parts = reader.collection(1)
        reader.end()
        return cls(parts, kind)

    def encode(self) -> bytes:
        """Write it as compact JSON."""
        members = [f'{_TYPED}"{self.type}"'.encode()] if self.type is not None else []
        members += [b'"%s":%s' % (label.encode(), part.encode()) for label, part in self.parts.items()]
        return b"{" + b",".join(members) + b"}"

    def values(self, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, bytes]:
        """The bytes of every part, if the labels are the expected ones.

        Raises:
            FormatError: a required label is missing, or there is an unexpected one.
        """
        missing = [label for label in required if label not in self.parts]
        unknown = sorted(set(self.parts) - {*required, *optional})
        if missing or unknown:
            raise FormatError(
                f"CMW collection: want parts {sorted(required)}, optional {sorted(optional)}, "
                f"got {sorted(self.parts)}",
                code="bad_type",
            )
        return {label: part.value for label, part in self.parts.items()}


def is_type(value: object) -> bool:
    """Whether a value is a media type or the number of a content format."""
    if isinstance(value, str):
        return _MEDIA.fullmatch(value) is not None
    return type(value) is int and 0 <= value <= MAX_FORMAT


def is_label(text: str) -> bool:
    """Whether text is valid as a part's label."""
    return _LABEL.fullmatch(text) is not None


def matches(data: bytes) -> bool:
    """Whether bytes start like a collection."""
    return _START.match(data) is not None


def matches_record(data: bytes) -> bool:
    """Whether bytes start like a single record."""
    return _RECORD_START.match(data) is not None


class _Reader:
    """Reads this shape of compact JSON: a regular language, except for nested collections."""

    def __init__(self, data: bytes, what: str) -> None:
        self.what = what
        if len(data) > MAX_SIZE:
            raise FormatError(f"{what}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
        try:
            self.text = data.decode("ascii")
        except UnicodeDecodeError as error:
            raise FormatError(f"{what} at {error.start:#x}: is not ASCII", code="bad_encoding") from None
        self.position = 0

    def collection(self, depth: int) -> tuple[str | None, dict[str, Part]]:
        if depth > MAX_DEPTH:
            raise self.refuse(f"more than {MAX_DEPTH} collections within each other", code="too_deep")
        kind: str | None = None
        parts: dict[str, Part] = {}
        self.expect("{")
        if self.text.startswith(_TYPED, self.position):
            self.position += len(_TYPED)
            kind = self.match(_URI_TEXT, "a URI or an object identifier")[1]
            self.expect(",")
        while True:
            start = self.position
            label = self.match(_KEY, "a label")[1]
            if label in parts:
                raise self.refuse(f"label {label!a} appears twice", start, code="duplicate_key")
            if len(parts) == MAX_PARTS:
                raise self.refuse(f"more than {MAX_PARTS} parts", start, code="too_large")
            parts[label] = (
                self.read_nested(depth) if self.text.startswith("{", self.position) else self.part(start)
            )
            if self.text.startswith("}", self.position):
                break
            self.expect(",")
        self.expect("}")
        return kind, parts

    def read_nested(self, depth: int) -> Nested:
        start = self.position
        self.collection(depth + 1)
        return Nested(NESTED, self.text[start : self.position].encode())

    def part(self, start: int) -> Part:
        match = _PART.match(self.text, self.position)
        if match is not None:
            self.position = match.end()
            return self.rest(match[1].replace("\\", ""), start)
        if self.text.startswith('["#', self.position):
            raise UnsupportedError(
                f"{self.what} at {self.position:#x}: a tunnel is not handled", code="bad_type"
            )
        number = self.match(_FORMAT, "a part with a media type or a content format")
        if int(number[1]) > MAX_FORMAT:
            raise self.refuse(f"content format: want 0..{MAX_FORMAT}, got {number[1]}", start)
        return self.rest(int(number[1]), start)

    def rest(self, media: str | int, start: int) -> Part:
        """The rest of a part, after its media type."""
        value_start = self.position
        self.position = max(self.text.find('"', value_start), value_start)
        value = b64.decode_url(self.text[value_start : self.position], f"{self.what} at {value_start:#x}")
        number = self.match(_END, "the part's end")[1]
        if number and int(number) > 31:
            raise self.refuse(f"indicator: want 1..31, got {number}", start)
        return Part(media, value, Indicator(int(number)) if number else None)

    def match(self, pattern: re.Pattern[str], want: str) -> re.Match[str]:
        matched = pattern.match(self.text, self.position)
        if matched is None:
            raise self.refuse(f"want {want}, got {self.text[self.position : self.position + 16]!a}")
        self.position = matched.end()
        return matched

    def expect(self, mark: str) -> None:
        if not self.text.startswith(mark, self.position):
            raise self.refuse(f"want {mark!a}, got {self.text[self.position : self.position + 16]!a}")
        self.position += 1

    def end(self) -> None:
        left = len(self.text) - self.position
        if left:
            raise self.refuse(f"{left} bytes after the end", code="trailing_data")

    def refuse(self, problem: str, start: int | None = None, code: str = "bad_encoding") -> FormatError:
        at = self.position if start is None else start
        return FormatError(
            f"{self.what} at {at:#x}: {problem}",
            hint="write the JSON without spaces or escapes (jq -c)" if code == "bad_encoding" else None,
            code=code,
        )
