"""Parse dstack's attestation in SCALE: evidence of a TEE, and the events that its software recorded.

Only version 0; version 1 is MessagePack. Nothing here is verified, and only events that a register's value
proves can be trusted.

Spec: dstack 0.6, ``dstack-attest`` (``VersionedAttestation``, ``AttestationQuote``), ``cc-eventlog``
(``TdxEvent``, ``RuntimeEvent``); SCALE codec, "Compact/general integers", "Vectors", "Enumerations".
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.reader import Reader
from kluis.frozen import frozen

T = TypeVar("T")

WHAT: Final = "dstack attestation"
MAX_SIZE: Final = 4 << 20
MAX_EVENTS: Final = 1 << 14
MAX_CERTIFICATES: Final = 8
REPORT_DATA_SIZE: Final = 64
LEAST_EVIDENCE: Final = 432
_CONFIG_TAG: Final = b"dstack-mr-config-v3:\0"
_BEGINS: Final = (b"\3\0", b"\4\0", b"\5\0")
_COSE: Final = (b"\xd2\x84", b"\x84\x44")


class Platform(enum.IntEnum):
    """The platform of the evidence, by its number in the encoding."""

    TDX = 0
    GCP_TDX = 1
    NITRO = 2
    SNP = 3
    NITROTPM = 4


@frozen
class Event:
    """An event of a TDX domain; dstack's own events may have no digest.

    Attributes:
        register: that it extended.
        kind: a TCG event type, or dstack's own.
        digest: 48 bytes, or none.
        name: of a dstack event.
        payload: of a dstack event.
    """

    register: int
    kind: int
    digest: bytes
    name: str
    payload: bytes


@frozen(kw_only=True)
class Attestation:
    """An attestation.

    Attributes:
        platform: of the evidence.
        evidence: a TDX quote, a SEV-SNP report, or a document of AWS Nitro.
        events: the log; only for TDX.
        certificates: DER; only for SEV-SNP.
        config: whose hash is HOST_DATA; only for SEV-SNP.
        runtime: name and payload of the software's events, in order.
        report_data: 64 bytes, the stated report data of the evidence.
        vm_config: description of the machine, which nothing proves.
    """

    platform: Platform
    evidence: bytes
    events: tuple[Event, ...]
    certificates: tuple[bytes, ...]
    config: str
    runtime: tuple[tuple[str, bytes], ...]
    report_data: bytes
    vm_config: str

    @property
    def host_data(self) -> bytes | None:
        """HOST_DATA of the report that binds ``config``, 32 bytes; None for other platforms."""
        if self.platform is not Platform.SNP:
            return None
        return hashlib.sha256(_CONFIG_TAG + self.config.encode()).digest()

    def log(self) -> bytes:
        """The events as dstack's own log in JSON: those of the log, or those that the software recorded."""
        events: Iterable[Event] = self.events or (
            Event(3, 0x0800_0001, b"", name, payload) for name, payload in self.runtime
        )
        listed: list[jcs.Writable] = []
        for event in events:
            shown: dict[str, jcs.Writable] = {
                "imr": event.register,
                "event_type": event.kind,
                "event": event.name,
                "event_payload": event.payload.hex(),
            }
            listed.append({**shown, "digest": event.digest.hex()} if event.digest else shown)
        return jcs.dumps(listed)

    def encode(self) -> bytes:
        """Write the attestation."""
        out = [bytes((0, self.platform)), _encode_sized(self.evidence)]
        if self.platform is Platform.TDX:
            out.append(_encode_list(map(_event, self.events)))
        elif self.platform is Platform.SNP:
            out += [_encode_list(map(_encode_sized, self.certificates)), _encode_sized(self.config.encode())]
        recorded = (_encode_sized(name.encode()) + _encode_sized(payload) for name, payload in self.runtime)
        out += [_encode_list(recorded), self.report_data, _encode_sized(self.vm_config.encode())]
        return b"".join(out)


def matches(data: bytes) -> bool:
    """Whether bytes start like version 0, with evidence of its platform."""
    if data[:1] != b"\0" or len(data) < LEAST_EVIDENCE or data[1] > max(Platform):
        return False
    try:
        reader = _Scale(data[2:6], WHAT)
        size = reader.compact("size")
    except FormatError:
        return False
    start = 2 + reader.position
    if not LEAST_EVIDENCE <= size < len(data) - start:
        return False
    return data[start : start + 2] in (_COSE if data[1] in (Platform.NITRO, Platform.NITROTPM) else _BEGINS)


def parse(data: bytes) -> Attestation:
    """Parse an attestation, at most 4 MiB.

    Raises:
        UnsupportedError: another version, or a platform with a TPM quote in addition to the domain's.
        FormatError: malformed, or a number that is not minimal.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    reader = _Scale(data, WHAT)
    version = reader.u8("version")
    if version != 0:
        raise UnsupportedError(f"{WHAT}.version at 0x0: want 0, got {version}", code="bad_version")
    number = reader.u8("platform")
    if number > max(Platform):
        raise UnsupportedError(
            f"{WHAT}.platform at 0x1: want 0..{max(Platform)}, got {number}", code="bad_type"
        )
    platform = Platform(number)
    if platform is Platform.GCP_TDX:
        raise UnsupportedError(
            f"{WHAT}.platform at 0x1: TDX of Google's cloud is not handled", code="bad_type"
        )
    evidence = reader.read_sized("evidence")
    tdx, snp = platform is Platform.TDX, platform is Platform.SNP
    attestation = Attestation(
        platform=platform,
        evidence=evidence,
        events=reader.read_list("events", MAX_EVENTS, _read_event) if tdx else (),
        certificates=reader.read_list("certificates", MAX_CERTIFICATES, _certificate) if snp else (),
        config=reader.text("config") if snp else "",
        runtime=reader.read_list("runtime", MAX_EVENTS, _read_record),
        report_data=reader.take(REPORT_DATA_SIZE, "report_data"),
        vm_config=reader.text("vm_config"),
    )
    reader.end()
    return attestation


class _Scale(Reader):
    """A cursor over SCALE; integers are little-endian."""

    __slots__ = ()

    def compact(self, field: str) -> int:
        """Read a compact integer below 2^30, in its one encoding."""
        at = self.position
        first = self.u8(field)
        mode = first & 3
        if mode == 3:
            raise FormatError(f"{self.what}.{field} at {at:#x}: more than 2^30", code="too_large")
        rest = self.take((1 << mode) - 1, field)
        value = int.from_bytes(bytes((first,)) + rest, "little") >> 2
        if mode and value < 1 << (6 if mode == 1 else 14):
            raise FormatError(f"{self.what}.{field} at {at:#x}: is not minimal", code="bad_encoding")
        return value

    def read_sized(self, field: str) -> bytes:
        """Read bytes preceded by their count."""
        return self.take(self.compact(f"{field} size"), field)

    def text(self, field: str) -> str:
        """Read text preceded by its count of bytes."""
        at = self.position
        try:
            return self.read_sized(field).decode()
        except UnicodeDecodeError:
            raise FormatError(f"{self.what}.{field} at {at:#x}: is not UTF-8", code="bad_encoding") from None

    def read_list(self, field: str, most: int, item: Callable[[_Scale], T]) -> tuple[T, ...]:
        """Read a list of at most ``most`` items."""
        at = self.position
        count = self.compact(f"{field} count")
        if count > most:
            raise FormatError(
                f"{self.what}.{field} at {at:#x}: has {count} items, must be at most {most}", code="too_large"
            )
        return tuple(item(self) for _ in range(count))


def _read_event(reader: _Scale) -> Event:
    register, kind, digest = reader.u32("imr"), reader.u32("event_type"), reader.read_sized("digest")
    return Event(register, kind, digest, reader.text("event"), reader.read_sized("event_payload"))


def _certificate(reader: _Scale) -> bytes:
    return reader.read_sized("certificate")


def _read_record(reader: _Scale) -> tuple[str, bytes]:
    return reader.text("event"), reader.read_sized("payload")


def _event(event: Event) -> bytes:
    numbers = event.register.to_bytes(4, "little") + event.kind.to_bytes(4, "little")
    return (
        numbers
        + _encode_sized(event.digest)
        + _encode_sized(event.name.encode())
        + _encode_sized(event.payload)
    )


def _compact(number: int) -> bytes:
    mode, size = (0, 1) if number < 1 << 6 else (1, 2) if number < 1 << 14 else (2, 4)
    return (number << 2 | mode).to_bytes(size, "little")


def _encode_sized(data: bytes) -> bytes:
    return _compact(len(data)) + data


def _encode_list(items: Iterable[bytes]) -> bytes:
    each = list(items)
    return _compact(len(each)) + b"".join(each)
