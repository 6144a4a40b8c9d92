"""Conceptual message wrapper: evidence of several parts, each with its name and media type.

A part is ``["media type","base64url"]`` with an optional indicator of what it is; a collection is an
object of parts. Compact JSON alone is read, so that what parses is written as the same bytes.
Nothing here is verified: a wrapper is not signed, its parts are.

Spec: RATS Conceptual Messages Wrapper, draft-ietf-rats-msg-wrap, "JSON Record" and "CMW Collections".
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

from kluis.errors import FormatError, UnsupportedError, UsageError
from kluis.formats import b64

MAX_SIZE: Final = 16 << 20
MAX_PARTS: Final = 32
OCTETS: Final = "application/octet-stream"

_LABELS: Final = r"(?!__cmwc_t\b)[A-Za-z0-9_.:/-]{1,64}"
_MEDIAS: Final = r"[a-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+:;= -]{1,160}"
_URIS: Final = r"(?:[a-z][a-z0-9+.-]{0,31}:[!#-\[\]-~]{1,200}|[0-9]{1,10}(?:\.[0-9]{1,10}){1,24})"
_LABEL: Final = re.compile(_LABELS, re.ASCII)
_MEDIA: Final = re.compile(_MEDIAS, re.ASCII)
_URI: Final = re.compile(_URIS, re.ASCII)
_START: Final = re.compile(rb'\{"(?:__cmwc_t":"|[A-Za-z0-9_.:/-]{1,64}":\["[a-z0-9!#$&^_.+-]{1,64}/)')
_RECORD_START: Final = re.compile(rb'\["[a-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+:;= -]{1,160}","')
_TYPED: Final = '"__cmwc_t":'
_URI_TEXT: Final = re.compile(f'"({_URIS})"', re.ASCII)
_KEY: Final = re.compile(f'"({_LABELS})":', re.ASCII)
_PART: Final = re.compile(rf'\["({_MEDIAS})","', re.ASCII)
_MEMBER: Final = re.compile(rf'"({_LABELS})":\["({_MEDIAS})","', re.ASCII)
_END: Final = re.compile(r'"(?:,([1-9][0-9]{0,2}))?\]')
_FORMAT: Final = re.compile(r"\[[0-9]")


class Indicator(enum.IntFlag):
    """What kinds of conceptual message a part holds."""

    REFERENCE_VALUES = 1
    ENDORSEMENTS = 2
    EVIDENCE = 4
    ATTESTATION_RESULTS = 8
    APPRAISAL_POLICY = 16


@dataclass(frozen=True, slots=True)
class Part:
    """One part: bytes, and what they say they are.

    Attributes:
        media_type: such as ``application/octet-stream``; not believed.
        value: the bytes.
        indicator: what the part is for; None where it does not say.
    """

    media_type: str
    value: bytes
    indicator: Indicator | None = None

    def __post_init__(self) -> None:
        if not _MEDIA.fullmatch(self.media_type):
            raise UsageError(f"CMW: {self.media_type[:64]!a} is no media type")
        if self.indicator is not None and not 0 < self.indicator < 32:
            raise UsageError(f"CMW: want an indicator of 1..31, got {self.indicator:d}")

    @classmethod
    def parse(cls, data: bytes, what: str = "CMW record") -> Self:
        """Read one record that stands alone.

        Raises:
            FormatError: not one record in compact JSON.
            UnsupportedError: its type is a content format number.
        """
        reader = _Reader(data, what)
        part = reader.part()
        reader.end()
        return cls(part.media_type, part.value, part.indicator)

    def encode(self) -> bytes:
        """Write it as a record that stands alone."""
        end = f",{self.indicator:d}]" if self.indicator is not None else "]"
        return f'["{self.media_type}","{b64.encode_url(self.value)}"{end}'.encode()


@dataclass(frozen=True, slots=True)
class Collection:
    """Parts by their labels, in the order they stand in.

    Attributes:
        parts: 1 to 32, by labels of 1 to 64 letters, digits and ``_.:/-``.
        type: what the collection is, a URI or an object identifier; None where it does not say.
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
        """Read a collection in compact JSON, at most 16 MiB and 32 parts.

        Raises:
            FormatError: it is not one, or a label stands twice.
            UnsupportedError: a part is a content format number, or a collection itself.
        """
        reader = _Reader(data, "CMW collection")
        kind, parts = reader.collection()
        return cls(parts, kind)

    def encode(self) -> bytes:
        """Write it as compact JSON."""
        members = [f'{_TYPED}"{self.type}"'.encode()] if self.type is not None else []
        members += [b'"%s":%s' % (label.encode(), part.encode()) for label, part in self.parts.items()]
        return b"{" + b",".join(members) + b"}"

    def values(self, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, bytes]:
        """The bytes of every part, when the labels are the expected ones.

        Raises:
            FormatError: a required label is missing, or another stands there.
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


def matches(data: bytes) -> bool:
    """Whether bytes begin as a collection does."""
    return _START.match(data) is not None


def matches_record(data: bytes) -> bool:
    """Whether bytes begin as a record that stands alone does."""
    return _RECORD_START.match(data) is not None


class _Reader:
    """Compact JSON of this shape is a regular language; a backslash has no place in it."""

    def __init__(self, data: bytes, what: str) -> None:
        self.what = what
        if len(data) > MAX_SIZE:
            raise FormatError(f"{what}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
        try:
            self.text = data.decode("ascii")
        except UnicodeDecodeError as error:
            raise FormatError(f"{what} at {error.start:#x}: is not ASCII", code="bad_encoding") from None
        self.position = 0

    def collection(self) -> tuple[str | None, dict[str, Part]]:
        kind: str | None = None
        parts: dict[str, Part] = {}
        self.expect("{")
        if self.text.startswith(_TYPED, self.position):
            self.position += len(_TYPED)
            kind = self.match(_URI_TEXT, "a URI or an object identifier")[1]
            self.expect(",")
        while True:
            start = self.position
            found = _MEMBER.match(self.text, start)
            if found is None:
                raise self.explain()
            label = found[1]
            if label in parts:
                raise self.refuse(f"label {label!a} stands twice", code="duplicate_key")
            if len(parts) == MAX_PARTS:
                raise self.refuse(f"more than {MAX_PARTS} parts", code="too_large")
            self.position = found.end()
            parts[label] = self.rest(found[2], start)
            if self.text.startswith("}", self.position):
                break
            self.expect(",")
        self.expect("}")
        self.end()
        return kind, parts

    def part(self) -> Part:
        found = _PART.match(self.text, self.position)
        if found is None:
            raise self.explain_part()
        self.position = found.end()
        return self.rest(found[1], 0)

    def explain(self) -> FormatError:
        """Why no member stands here."""
        self.match(_KEY, "a label")
        return self.explain_part()

    def explain_part(self) -> FormatError:
        """Why no part stands here."""
        at = f"{self.what} at {self.position:#x}"
        if self.text.startswith(("{", '["#'), self.position):
            return UnsupportedError(
                f"{at}: a collection or a tunnel within one is not handled", code="too_deep"
            )
        if _FORMAT.match(self.text, self.position):
            return UnsupportedError(
                f"{at}: the type is a content format number",
                hint="name the media type instead",
                code="bad_type",
            )
        return self.refuse(f"want a part with a media type, got {self.text[self.position :][:24]!a}")

    def rest(self, media: str, start: int) -> Part:
        """What follows a part's media type."""
        value_start = self.position
        self.position = max(self.text.find('"', value_start), value_start)
        value = b64.decode_url(self.text[value_start : self.position], f"{self.what} at {value_start:#x}")
        number = self.match(_END, "the part's end")[1]
        if number and int(number) > 31:
            raise self.refuse(f"indicator: want 1..31, got {number}", start)
        return Part(media, value, Indicator(int(number)) if number else None)

    def match(self, pattern: re.Pattern[str], want: str) -> re.Match[str]:
        found = pattern.match(self.text, self.position)
        if found is None:
            raise self.refuse(f"want {want}, got {self.text[self.position : self.position + 16]!a}")
        self.position = found.end()
        return found

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
