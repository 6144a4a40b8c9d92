"""Parse the DICE extension of a GPU's leaf certificate, which describes its firmware.

Spec: TCG "DICE Attestation Architecture" 1.1, "TCB Info Evidence Extension" (2.23.133.5.4.1.1), and the older
composite device identity (2.23.133.5.4.1) in certificates of Hopper GPUs and their switches.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding import der
from kluis.frozen import frozen

COMPOSITE_DEVICE: Final = "2.23.133.5.4.1"
TCB_INFO: Final = "2.23.133.5.4.1.1"
FWID_SIZE: Final = 48
_SHA384: Final = der.oid("2.16.840.1.101.3.4.2.2")
_FWIDS: Final = 0xA6
_FLAGS: Final = 0x87
# Implicit tags of DiceTcbInfo, in their mandatory order: vendor, model, version, svn, layer, index, fwids,
# flags, vendorInfo, type.
_ORDER: Final = (0x80, 0x81, 0x82, 0x83, 0x84, 0x85, _FWIDS, _FLAGS, 0x88, 0x89)


class Flag(enum.IntFlag):
    """Operational flags: bit 0 of the bit string is the highest."""

    NOT_CONFIGURED = 1 << 31
    NOT_SECURE = 1 << 30
    RECOVERY = 1 << 29
    DEBUG = 1 << 28
    FIXED_WIDTH = 1


@frozen
class Dice:
    """Measurements taken before the key was made.

    Attributes:
        fwid: 48 bytes, SHA-384 of the firmware that owns the key.
        flags: operational flags, 32 bits; None if the extension has none.
    """

    fwid: bytes
    flags: int | None


def read(extensions: Mapping[str, bytes], what: str) -> Dice | None:
    """Parse the DICE extension of a certificate, in either form.

    Args:
        extensions: of the certificate, by identifier.
        what: the certificate, for messages.

    Returns:
        None if there is no such extension.

    Raises:
        FormatError: an extension is malformed, or both are present.
    """
    old, new = extensions.get(COMPOSITE_DEVICE), extensions.get(TCB_INFO)
    if old is not None and new is not None:
        raise FormatError(f"{what}: has two DICE extensions", code="duplicate_key")
    if old is not None:
        return _composite(old, f"{what}.composite device")
    return None if new is None else _tcb_info(new, f"{what}.TCB info")


def _composite(data: bytes, what: str) -> Dice:
    position, end = _whole(data, what)
    start, position = der.within(data, position, end, der.INTEGER, what)
    der.Element(der.INTEGER, data[start:position]).integer(1, what)
    _, position = der.within(data, position, end, der.SEQUENCE, what)  # the device's public key
    fwid, position = _fwid(data, position, end, what)
    if position != end:
        raise FormatError(f"{what} at {position:#x}: bytes after the firmware id", code="trailing_data")
    return Dice(fwid, None)


def _tcb_info(data: bytes, what: str) -> Dice:
    position, end = _whole(data, what)
    fwid: bytes | None = None
    flags: int | None = None
    last = -1
    while position < end:
        tag, start, stop = der.bounds(data, position, end, what)
        place = _ORDER.index(tag) if tag in _ORDER else -1
        if place <= last:
            raise FormatError(f"{what} at {position:#x}: field {tag:#04x} is out of place", code="bad_type")
        last = place
        if tag == _FWIDS:
            # The first is the firmware's; a second, if there is one, is of what it loads.
            fwid, after = _fwid(data, start, stop, what)
            while after < stop:
                _, after = _fwid(data, after, stop, what)
        elif tag == _FLAGS:
            flags = _flags(data[start:stop], what)
        position = stop
    if fwid is None:
        raise FormatError(f"{what}: has no firmware id", code="bad_type")
    return Dice(fwid, flags)


def _whole(data: bytes, what: str) -> tuple[int, int]:
    start, end = der.within(data, 0, len(data), der.SEQUENCE, what)
    if end != len(data):
        raise FormatError(f"{what} at {end:#x}: {len(data) - end} bytes after the end", code="trailing_data")
    return start, end


def _fwid(data: bytes, position: int, end: int, what: str) -> tuple[bytes, int]:
    start, stop = der.within(data, position, end, der.SEQUENCE, what)
    _, after = der.within(data, start, stop, der.OID, what)
    if data[start:after] != _SHA384:
        raise FormatError(f"{what} at {start:#x}: want a SHA-384 firmware id", code="bad_type")
    begin, finish = der.within(data, after, stop, der.OCTET_STRING, what)
    if finish != stop or finish - begin != FWID_SIZE:
        raise FormatError(
            f"{what} at {begin:#x}: want {FWID_SIZE} bytes, got {stop - begin}", code="bad_length"
        )
    return data[begin:finish], stop


def _flags(content: bytes, what: str) -> int:
    if len(content) != 5 or content[0]:
        raise FormatError(f"{what}: want flags of 32 bits, got {content[:8].hex()}", code="bad_length")
    return int.from_bytes(content[1:], "big")
