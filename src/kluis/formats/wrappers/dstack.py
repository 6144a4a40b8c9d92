"""Parse dstack's JSON event log, its quote response, and the extensions of its certificates.

Nothing here is verified. A log is trusted only after its replay produces the registers of a verified quote.
Of a runtime event, only what its digest covers is trusted.

Spec: dstack 0.5, ``cc-eventlog`` (digests of versions 1 and 2), ``ra-tls`` (certificates).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding import der, jcs
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen

QUOTE_OID: Final = "1.3.6.1.4.1.62397.1.1"
EVENT_LOG_OID: Final = "1.3.6.1.4.1.62397.1.2"
ATTESTATION_OID: Final = "1.3.6.1.4.1.62397.1.8"
RUNTIME_EVENT: Final = 0x0800_0001
RUNTIME_REGISTER: Final = 3
REGISTERS: Final = 4
DIGEST_SIZE: Final = 48
MAX_SIZE: Final = 4 << 20
MAX_EVENTS: Final = 1 << 14
_WHAT: Final = "dstack event log"
_KEY_TAG: Final = b"ratls-cert:"
_KNOWN: Final = {"imr", "event_type", "digest", "event", "event_payload", "version", "preimage"}
_QUOTE_KNOWN: Final = {"quote", "event_log", "report_data", "vm_config", "hash_algorithm", "prefix"}


@frozen(kw_only=True)
class Event:
    """One event.

    Attributes:
        register: 0..3, the RTMR that it extended.
        kind: a TCG event type, or dstack's own.
        digest: 48 bytes that extended the register.
        name: of a runtime event; for others it proves nothing.
        payload: of a runtime event; for others it proves nothing, and may be absent.
    """

    register: int
    kind: int
    digest: bytes
    name: str
    payload: bytes

    @property
    def runtime(self) -> bool:
        """Whether the digest covers name and payload."""
        return self.kind == RUNTIME_EVENT


@frozen
class QuoteResponse:
    """The response of dstack's guest agent.

    Attributes:
        quote: a TDX quote.
        event_log: a separate JSON document.
        report_data: 64 bytes, the stated report data of the quote; None if it is not stated.
    """

    quote: bytes
    event_log: bytes
    report_data: bytes | None


def parse_log(data: bytes) -> tuple[Event, ...]:
    """Parse an event log, at most 4 MiB; the digest of each runtime event must match its content.

    Raises:
        FormatError: malformed, or a digest that does not match its content (code ``event_log``).
    """
    value = jcs.loads(data, _WHAT, max_size=MAX_SIZE, max_depth=4)
    if not isinstance(value, list) or len(value) > MAX_EVENTS:
        raise FormatError(f"{_WHAT}: want a list of at most {MAX_EVENTS} events", code="too_large")
    return tuple(_event(Members(item, f"{_WHAT}[{index}]")) for index, item in enumerate(value))


def matches_log(data: bytes) -> bool:
    """Whether bytes look like such a log: a list of events of registers."""
    head = data[:256].lstrip()
    return head[:1] == b"[" and b'"imr"' in head and b'"event_type"' in data[:4096]


def replay(events: Sequence[Event]) -> Mapping[int, bytes]:
    """Replay events into registers, 48 bytes each: those that events name, and the runtime's."""
    registers = {RUNTIME_REGISTER: bytes(DIGEST_SIZE)}
    for event in events:
        before = registers.get(event.register, bytes(DIGEST_SIZE))
        registers[event.register] = hashlib.sha384(before + event.digest).digest()
    return registers


def key_report_data(spki: bytes) -> bytes:
    """Report data that bind a certificate's key, 64 bytes: SHA-512 of a tag and the key."""
    return hashlib.sha512(_KEY_TAG + spki).digest()


def matches_response(data: bytes) -> bool:
    """Whether bytes look like a quote response: an object with a quote and an event log."""
    return data[:1] == b"{" and b'"quote"' in data and b'"event_log"' in data


def parse_response(data: bytes) -> QuoteResponse:
    """Parse a quote response.

    Raises:
        FormatError: malformed.
    """
    what = "dstack quote"
    value = Members(jcs.loads(data, what, max_size=MAX_SIZE, max_depth=6), what)
    unknown = sorted(set(value.entries(most=32)) - _QUOTE_KNOWN)
    if unknown:
        raise FormatError(f"{what}: does not know member {unknown[0]!a}", code="bad_type")
    return QuoteResponse(
        quote=value.hex("quote"),
        event_log=value.text("event_log", limit=MAX_SIZE).encode(),
        report_data=_pad(value.hex("report_data"), what) if "report_data" in value else None,
    )


def octets(extension: bytes, what: str) -> bytes:
    """The contents of a dstack extension: one OCTET STRING.

    Raises:
        FormatError: not an OCTET STRING.
    """
    start, end = der.within(extension, 0, len(extension), der.OCTET_STRING, what)
    if end != len(extension):
        raise FormatError(f"{what}: bytes after the end", code="trailing_data")
    return extension[start:end]


def _event(value: Members) -> Event:
    unknown = sorted(set(value.entries(most=16)) - _KNOWN)
    if unknown:
        raise FormatError(f"{value.what}: does not know member {unknown[0]!a}", code="bad_type")
    kind = value.integer("event_type", most=0xFFFF_FFFF)
    name, payload = value.text("event", limit=4096), value.hex("event_payload")
    digest = value.hex("digest") if "digest" in value else b""
    register = value.integer("imr", most=REGISTERS - 1)
    if kind == RUNTIME_EVENT:
        digest = _runtime_digest(value, name, payload, digest)
    elif len(digest) != DIGEST_SIZE:
        raise FormatError(
            f"{value.what}.digest: want {DIGEST_SIZE} bytes, got {len(digest)}", code="bad_length"
        )
    return Event(register=register, kind=kind, digest=digest, name=name, payload=payload)


def _runtime_digest(value: Members, name: str, payload: bytes, digest: bytes) -> bytes:
    """The digest of this content, in the version that the event states or its digest matches."""
    versions = {1: _preimage(name, payload), 2: _preimage_v2(name, payload)}
    if "version" in value:
        versions = {(version := value.version(1, 2)): versions[version]}
    digests = {hashlib.sha384(preimage).digest(): preimage for preimage in versions.values()}
    chosen = digest or next(iter(digests))
    if chosen not in digests:
        raise FormatError(f"{value.what}.digest: is not of the event's name and payload", code="event_log")
    if "preimage" in value:
        stated = value.text("preimage")
        if stated not in (digests[chosen].hex(), digests[chosen].decode(errors="replace")):
            raise FormatError(f"{value.what}.preimage: is not what the digest is of", code="event_log")
    return chosen


def _preimage(name: str, payload: bytes) -> bytes:
    return RUNTIME_EVENT.to_bytes(4, "little") + b":" + name.encode() + b":" + payload


def _preimage_v2(name: str, payload: bytes) -> bytes:
    return jcs.dumps({"event": name, "event_type": RUNTIME_EVENT, "payload": payload.hex(), "version": 2})


def _pad(data: bytes, what: str) -> bytes:
    if len(data) > 64:
        raise FormatError(f"{what}.report_data: want at most 64 bytes, got {len(data)}", code="bad_length")
    return data.ljust(64, b"\0")
