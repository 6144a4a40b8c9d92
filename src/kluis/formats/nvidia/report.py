"""Parse an NVIDIA attestation report: an SPDM request for measurements, and the device's signed answer.

Nothing here is verified. The signature is located by the lengths before it, never counted from the end: some
drivers append one zero byte.

Spec: DMTF DSP0274 1.1, "GET_MEASUREMENTS request and MEASUREMENTS response messages"; NVIDIA
attestation SDK 2026-05, "SPDM measurement response". Integers are little-endian.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Self

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.reader import Reader
from kluis.formats.nvidia.opaque import Opaque
from kluis.frozen import frozen

WHAT: Final = "NVIDIA report"
MAX_SIZE: Final = 32 << 10
NONCE_SIZE: Final = 32
SIGNATURE_SIZE: Final = 96
DIGEST_SIZE: Final = 48
REQUEST_SIZE: Final = 37

_REQUEST: Final = bytes.fromhex("11e001ff")  # version 1.1, GET_MEASUREMENTS, signed, every measurement
_RESPONSE: Final = bytes.fromhex("1160")  # version 1.1, MEASUREMENTS
_START: Final = REQUEST_SIZE + 8
_BLOCK: Final = 55
# Each block: specification 1 (DMTF), size 51; then a type, and size 48.
_SAME: Final = ((1, 1), (2, 51), (3, 0), (5, DIGEST_SIZE), (6, 0))


@frozen(kw_only=True)
class Frame:
    """A report cut into its parts by their lengths; the contents are not parsed.

    Attributes:
        nonce: 32 bytes, chosen by the requester.
        slot: 0..7, of the device's certificate chain that signs.
        count: of measurements.
        record: 55 bytes a measurement.
        device_nonce: 32 bytes, chosen by the device.
        opaque: the vendor's own fields.
        opaque_start: their offset.
        signature: 96 bytes r and s, big-endian, over all before it.
        trailing: bytes after the signature: none, or one zero byte.
    """

    nonce: bytes
    slot: int
    count: int
    record: bytes
    device_nonce: bytes
    opaque: bytes
    opaque_start: int
    signature: bytes
    trailing: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Cut one report, at most 32 KiB.

        Raises:
            FormatError: malformed.
            UnsupportedError: another SPDM version or message.
        """
        if len(data) > MAX_SIZE:
            raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
        reader = Reader(data, WHAT)
        _expect(reader, _REQUEST, "request")
        nonce = reader.take(NONCE_SIZE, "nonce")
        slot = reader.u8("slot")
        _expect(reader, _RESPONSE, "response")
        answered = reader.take(2, "parameters")
        if slot > 7 or answered != bytes((0, slot)):
            raise FormatError(
                f"{WHAT}.parameters at 0x27: want 00{slot:02x} for slot {slot} of 0..7, got {answered.hex()}",
                code="bad_encoding",
            )
        count = reader.u8("number_of_blocks")
        record = reader.take(reader.u24("record_length"), "measurements")
        device_nonce = reader.take(NONCE_SIZE, "device_nonce")
        opaque_size = reader.u16("opaque_length")
        opaque_start = reader.position
        opaque = reader.take(opaque_size, "opaque")
        signature = reader.take(SIGNATURE_SIZE, "signature")
        trailing = reader.take(1, "trailing") if reader.left == 1 else b""
        if trailing.strip(b"\0"):
            raise FormatError(
                f"{WHAT} at {reader.position - 1:#x}: must be zero, found {trailing[0]:#04x}",
                code="trailing_data",
            )
        reader.end()
        return cls(
            nonce=nonce,
            slot=slot,
            count=count,
            record=record,
            device_nonce=device_nonce,
            opaque=opaque,
            opaque_start=opaque_start,
            signature=signature,
            trailing=trailing,
        )


@frozen(kw_only=True)
class Report:
    """One request and the answer to it.

    Attributes:
        nonce: 32 bytes, chosen by the requester.
        slot: 0..7, of the device's certificate chain that signs.
        record: 55 bytes a measurement block.
        device_nonce: 32 bytes, chosen by the device.
        opaque: the vendor's own fields.
        signature: 96 bytes r and s, big-endian, over all before it.
        trailing: bytes after the signature: none, or one zero byte.
    """

    nonce: bytes
    slot: int
    record: bytes
    device_nonce: bytes
    opaque: Opaque
    signature: bytes
    trailing: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse one report, at most 32 KiB.

        Raises:
            FormatError: malformed.
            UnsupportedError: another SPDM version or message, or measurements that are not SHA-384 digests.
        """
        return cls.of(Frame.parse(data))

    @classmethod
    def of(cls, frame: Frame) -> Self:
        """Parse the contents of a frame.

        Raises:
            FormatError: malformed.
            UnsupportedError: measurements that are not SHA-384 digests, or another form of fields.
        """
        count = frame.count
        if not count or len(frame.record) != count * _BLOCK:
            raise UnsupportedError(
                f"{WHAT}.record_length at 0x2a: want {_BLOCK} for each of {count} measurements, "
                f"got {len(frame.record)}",
                code="bad_length",
            )
        _check_blocks(frame.record, count)
        return cls(
            nonce=frame.nonce,
            slot=frame.slot,
            record=frame.record,
            device_nonce=frame.device_nonce,
            opaque=Opaque.parse(frame.opaque, count, frame.opaque_start),
            signature=frame.signature,
            trailing=frame.trailing,
        )

    def signed_bytes(self) -> bytes:
        """The bytes that the device signed: all before the signature."""
        count, opaque = len(self.record) // _BLOCK, self.opaque.encode()
        return b"".join(
            (
                _REQUEST + self.nonce + bytes((self.slot,)) + _RESPONSE + bytes((0, self.slot, count)),
                len(self.record).to_bytes(3, "little") + self.record + self.device_nonce,
                len(opaque).to_bytes(2, "little") + opaque,
            )
        )

    def encode(self) -> bytes:
        """Write it as it was read."""
        return self.signed_bytes() + self.signature + self.trailing

    def measurements(self) -> Mapping[int, bytes]:
        """Every measurement, 48 bytes, by its number; numbers start at 1."""
        record = self.record
        places = range(_BLOCK - DIGEST_SIZE, len(record), _BLOCK)
        return MappingProxyType({n: record[at : at + DIGEST_SIZE] for n, at in enumerate(places, 1)})


def matches(data: bytes) -> bool:
    """Whether bytes start like a report."""
    return data[:4] == _REQUEST and data[REQUEST_SIZE : REQUEST_SIZE + 2] == _RESPONSE


def _expect(reader: Reader, want: bytes, field: str) -> None:
    at = reader.position
    got = reader.take(len(want), field)
    if got != want:
        raise UnsupportedError(
            f"{WHAT}.{field} at {at:#x}: want {want.hex()}, got {got.hex()}", code="bad_version"
        )


def _check_blocks(record: bytes, count: int) -> None:
    """Check that blocks differ only in type and digest, one column at a time."""
    if record[::_BLOCK] != bytes(range(1, count + 1)):
        raise FormatError(
            f"{WHAT}.measurements at {_START:#x}: want numbers 1..{count} in order", code="bad_encoding"
        )
    for column, want in _SAME:
        values = record[column::_BLOCK]
        if values != bytes((want,)) * count:
            wrong = next(index for index, value in enumerate(values) if value != want)
            raise UnsupportedError(
                f"{WHAT}.measurements at {_START + wrong * _BLOCK + column:#x}: "
                f"want {want:#04x}, as a SHA-384 digest has, got {values[wrong]:#04x}",
                code="bad_type",
            )
