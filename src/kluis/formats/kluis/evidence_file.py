"""Evidence and everything that judging it needs, in one file. Nothing here is verified.

A conceptual message wrapper: a collection in compact JSON, of type ``urn:kluis:evidence:1``. Its parts:

    evidence                application/octet-stream, or application/cmw+json for evidence in several parts
    runtime_data            application/json; the document whose hash is the report data
    launch_configuration    application/json; the document whose hash is CONFIGID
    collateral              application/json; the vendor's endorsements
    event_log               application/octet-stream; behind the quoted registers
    image                   text/plain; the name of the image, which nobody signs

Only ``evidence`` is required. A root is never a part: a file cannot bring its own trust.

Spec: RFC 9999, "Collection CMW", in JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol, Self

from kluis.errors import AuthenticityError, FormatError, UnsupportedError, foreign
from kluis.formats.ietf import cmw
from kluis.formats.ietf.cmw import Collection, Indicator, Part
from kluis.frozen import frozen

TYPE: Final = "urn:kluis:evidence:1"
WHAT: Final = "evidence file"
MAX_EVIDENCE: Final = 4 << 20
MAX_DOCUMENT: Final = 256 * 1024
# The largest collateral of any vendor is Intel's, of about 40 KiB; a machine's endorsement adds another.
MAX_COLLATERAL: Final = 512 * 1024
MAX_EVENT_LOG: Final = 4 << 20
MAX_IMAGE: Final = 128
JSON: Final = "application/json"
_TEXT: Final = "text/plain"
_START: Final = b'{"__cmwc_t":"urn:kluis:evidence:'


class Bundle(Protocol):
    """Evidence of a Kluis enclave with its two documents, such as :class:`~kluis.enclave.Evidence`."""

    @property
    def quote(self) -> bytes:
        """The evidence."""

    @property
    def runtime_data(self) -> bytes:
        """Canonical JSON, whose hash is its report data."""

    @property
    def launch_configuration(self) -> bytes:
        """Canonical JSON, whose hash is its CONFIGID."""


@frozen(kw_only=True)
class EvidenceFile:
    """One file of evidence.

    Attributes:
        evidence: of any TEE, 1 byte to 4 MiB; evidence in several parts is a collection in JSON.
        runtime_data: of a Kluis enclave, canonical JSON, at most 256 KiB; None if there is none.
        launch_configuration: of a Kluis enclave, canonical JSON, at most 256 KiB; None if there is none.
        collateral: its endorsements in the JSON of their kind, at most 512 KiB; None if there are none.
        event_log: behind the quoted registers, at most 4 MiB; None if there is none.
        image: the name of the image, at most 128 printable characters; signed by nobody.
    """

    evidence: bytes
    runtime_data: bytes | None = None
    launch_configuration: bytes | None = None
    collateral: bytes | None = None
    event_log: bytes | None = None
    image: str | None = None

    @classmethod
    def of(cls, bundle: Bundle, *, collateral: bytes | None = None, image: str | None = None) -> Self:
        """Combine an enclave's evidence with its collateral and the name of its image."""
        return cls(
            evidence=bundle.quote,
            runtime_data=bundle.runtime_data,
            launch_configuration=bundle.launch_configuration,
            collateral=collateral,
            image=image,
        )

    def encode(self) -> bytes:
        """Write the file.

        Raises:
            FormatError: a part is empty or too large.
        """
        image = None if self.image is None else self.image.encode(errors="surrogatepass")
        if image is not None:
            _text(image)
        values = {
            "evidence": self.evidence,
            "runtime_data": self.runtime_data,
            "launch_configuration": self.launch_configuration,
            "collateral": self.collateral,
            "event_log": self.event_log,
            "image": image,
        }
        parts: dict[str, Part] = {}
        for name, value in values.items():
            if value is not None:
                media, indicator, _ = _FORMS[name]
                several = name == "evidence" and cmw.matches(value)
                parts[name] = Part(cmw.NESTED if several else media, value, indicator)
        _check(parts)
        return Collection(parts, TYPE).encode()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a file of at most 16 MiB.

        Raises:
            FormatError: not such a collection; a part is repeated, unknown, empty, too large, or of another
                type.
            UnsupportedError: another version of the format.
            AuthenticityError: it has no part with evidence (code ``no_evidence``).
        """
        collection = Collection.parse(data)
        if collection.type != TYPE:
            raise UnsupportedError(
                f"{WHAT}: want type {TYPE}, got {collection.type or 'none'}", code="bad_version"
            )
        if "evidence" not in collection.parts:
            raise AuthenticityError(
                f"{WHAT}: want a part evidence, got {', '.join(collection.parts)[:200]}", code="no_evidence"
            )
        if unknown := [name for name in collection.parts if name not in _NAMES]:
            raise FormatError(
                f"{WHAT}: want parts {', '.join(_NAMES)}, got {unknown[0]}",
                hint="each piece of evidence has its own file; kluis inspect lists the parts",
                code="bad_type",
            )
        if list(collection.parts) != [name for name in _NAMES if name in collection.parts]:
            raise FormatError(f"{WHAT}: want parts in the order {', '.join(_NAMES)}", code="bad_type")
        _check(collection.parts)
        image = collection.parts.get("image")
        parts = {name: part.value for name, part in collection.parts.items() if name != "image"}
        return cls(**parts, image=None if image is None else _text(image.value))


def matches(data: bytes) -> bool:
    """Whether bytes start like an evidence file of any version."""
    return data.startswith(_START)


# Media type, purpose, and the limit in bytes of each part, in the order of the file.
_FORMS: Final[Mapping[str, tuple[str, Indicator | None, int]]] = {
    "evidence": (cmw.OCTETS, Indicator.EVIDENCE, MAX_EVIDENCE),
    "runtime_data": (JSON, Indicator.EVIDENCE, MAX_DOCUMENT),
    "launch_configuration": (JSON, Indicator.EVIDENCE, MAX_DOCUMENT),
    "collateral": (JSON, Indicator.ENDORSEMENTS, MAX_COLLATERAL),
    "event_log": (cmw.OCTETS, Indicator.EVIDENCE, MAX_EVENT_LOG),
    "image": (_TEXT, None, MAX_IMAGE),
}
_NAMES: Final = tuple(_FORMS)


def _check(parts: Mapping[str, Part]) -> None:
    for name, part in parts.items():
        media, indicator, most = _FORMS[name]
        if not 0 < len(part.value) <= most:
            raise FormatError(
                f"{WHAT}.{name}: want 1..{most} bytes, got {len(part.value)}",
                code="too_large" if part.value else "truncated",
            )
        if name == "evidence" and cmw.matches(part.value):
            media = cmw.NESTED
        if part.media_type != media or part.indicator != indicator:
            raise FormatError(
                f"{WHAT}.{name}: want {media} of purpose {_purpose(indicator)},"
                f" got {str(part.media_type)[:64]} of purpose {_purpose(part.indicator)}",
                code="bad_type",
            )


def _purpose(indicator: Indicator | None) -> str:
    return "none" if indicator is None else str(indicator.value)


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise FormatError(f"{WHAT}.image: is not UTF-8", code="bad_encoding") from None
    if foreign(text, len(text)) != text:
        raise FormatError(f"{WHAT}.image: want printable text, got {text[:32]!a}", code="bad_encoding")
    return text
