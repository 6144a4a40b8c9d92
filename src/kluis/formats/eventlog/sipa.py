"""What Windows measures of its own start (WBCL): events within events. Nothing here is verified.

A tagged event of PCR 11 to 14 holds one event, or a container of more: type, size, value, each 4 bytes
little-endian but for the value.

Spec: Microsoft "WBCL structures" (``wbcl.h``), SIPAEVENT types.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

from kluis.errors import FormatError
from kluis.formats._reader import Reader

MAX_EVENTS: Final = 4096
MAX_DEPTH: Final = 4
_AGGREGATION: Final = 0x40000000
_CLASSES: Final = range(0x0001, 0x000D)


class Sipa(enum.IntEnum):
    """The events that are read here."""

    ELAM_AGGREGATION = 0x40010002
    BOOT_DEBUGGING = 0x00040001
    OS_KERNEL_DEBUG = 0x00050001
    CODE_INTEGRITY = 0x00050002
    TEST_SIGNING = 0x00050003
    SAFE_MODE = 0x00050005
    WIN_PE = 0x00050006
    HYPERVISOR_IOMMU_POLICY = 0x0005000C
    HYPERVISOR_DEBUG = 0x0005000D
    FLIGHT_SIGNING = 0x00050021
    VSM_REQUIRED = 0x000A0001
    HVCI_POLICY = 0x000A0007


def matches(data: bytes) -> bool:
    """Whether the data of a tagged event begin as Windows' do: others tag events in these PCRs, too."""
    return len(data) >= 8 and int.from_bytes(data[:4], "little") >> 16 & 0x3FFF in _CLASSES


def events(data: bytes) -> list[tuple[int, bytes]]:
    """Every event, containers before what they hold: type and value.

    Raises:
        FormatError: a size that does not fit, more than 4096 events, or containers 5 deep.
    """
    found: list[tuple[int, bytes]] = []
    for event in _walk(data, 0):
        if len(found) == MAX_EVENTS:
            raise FormatError(f"WBCL: more than {MAX_EVENTS} events", code="too_large")
        found.append(event)
    return found


def number(value: bytes) -> int:
    """An event's value as a number: little-endian, at most 8 bytes.

    Raises:
        FormatError: it is longer.
    """
    if len(value) > 8:
        raise FormatError(f"WBCL: want a number of at most 8 bytes, got {len(value)}", code="bad_length")
    return int.from_bytes(value, "little")


def _walk(data: bytes, depth: int) -> Iterator[tuple[int, bytes]]:
    if depth > MAX_DEPTH:
        raise FormatError(f"WBCL: nested more than {MAX_DEPTH} deep", code="too_deep")
    r = Reader(data, "WBCL")
    while r.left:
        kind = r.u32("type")
        value = r.take(r.u32("size"), "value")
        yield kind, value
        if kind & _AGGREGATION:
            yield from _walk(value, depth + 1)
