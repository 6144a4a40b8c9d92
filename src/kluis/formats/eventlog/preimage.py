"""Find the bytes of an event that its digest covers, by event type. Nothing here is verified.

A digest may cover something that the log does not contain (a program, a firmware volume, an initrd). Then
there are no such bytes: the digest is compared with known ones, never recomputed.

Spec: TCG "PC Client Platform Firmware Profile", "Event Types"; shim, GRUB, systemd-stub and Linux for what
they put into EV_IPL and EV_EVENT_TAG.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError
from kluis.formats.eventlog.event_data import parse_tagged, parse_variable
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.eventlog.log import Event

WHOLE: Final = frozenset(
    {
        EventType.SEPARATOR,
        EventType.S_CRTM_VERSION,
        EventType.ACTION,
        EventType.NONHOST_INFO,
        EventType.EFI_VARIABLE_DRIVER_CONFIG,
        EventType.EFI_VARIABLE_BOOT,
        EventType.EFI_VARIABLE_BOOT2,
        EventType.EFI_VARIABLE_AUTHORITY,
        EventType.EFI_GPT_EVENT,
        EventType.EFI_GPT_EVENT2,
        EventType.EFI_ACTION,
        EventType.EFI_HCRTM_EVENT,
        EventType.EVENT_TAG,
        EventType.IPL,
    }
)
_VALUE_OF_VARIABLE: Final = frozenset(
    # Older firmware hashes only a boot variable's value; shim does so for the lists that it mirrors.
    {EventType.EFI_VARIABLE_BOOT, EventType.EFI_VARIABLE_AUTHORITY}
)
# A name states only what was hashed, not which bytes: GRUB names a file, shim a list, Linux an initrd.
NAMED: Final = frozenset({EventType.EVENT_TAG, EventType.IPL})


def preimages(event: Event) -> tuple[bytes, ...]:
    """The byte strings that the digest may cover, the whole data first; empty if the log does not contain
    them.
    """
    if event.kind not in WHOLE:
        return ()
    candidates = [event.data]
    if event.kind in _VALUE_OF_VARIABLE:
        candidates += _value_of_variable(event.data)
    elif event.kind == EventType.IPL:
        candidates += _ipl(event.data)
    elif event.kind == EventType.EVENT_TAG:
        candidates += _tagged_values(event.data)
    return tuple(candidates)


def _value_of_variable(data: bytes) -> list[bytes]:
    try:
        return [parse_variable(data).value]
    except FormatError:
        return []


def _ipl(data: bytes) -> list[bytes]:
    """GRUB writes ``grub_cmd: set x`` and a NUL, and hashes only ``set x``."""
    text = data.removesuffix(b"\0")
    _, colon, content = text.partition(b": ")
    return [text, content] if colon else [text]


def _tagged_values(data: bytes) -> list[bytes]:
    try:
        return [parse_tagged(data).value]
    except FormatError:
        return []
