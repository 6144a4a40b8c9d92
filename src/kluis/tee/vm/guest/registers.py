r"""Compute the registers that a boot of the unified kernel image leaves, before anything boots.

| register | extended by | with |
|---|---|---|
| PCR 4 | firmware | the call of a boot option, the separator, the unified image, the kernel in it |
| PCR 9 | the kernel's own stub | the command line (UTF-16), the RAM disk as systemd's stub hands it over |
| PCR 11 | systemd's stub | name and content of each section, in the stub's order |
| PCR 12 | systemd's stub | nothing: no command line or credential comes from outside |
| RTMR 2 | both stubs | what goes into PCR 11, then what goes into PCR 9 |

PCR 4 is that of a firmware which starts ``\EFI\BOOT\BOOTX64.EFI`` first, and measures as EDK II does. What
else firmware measures depends on the firmware, and is judged from its event log.

Spec: TCG, "PC Client Platform Firmware Profile", 3.3.4; systemd 257, src/boot/stub.c, src/boot/cpio.c and
systemd-stub(7); Linux, drivers/firmware/efi/libstub/efi-stub-helper.c; UEFI 2.10, 38.4.1 (mapping to RTMRs).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from kluis.errors import FormatError
from kluis.formats.eventlog import pe
from kluis.formats.eventlog.log import EventLog
from kluis.formats.eventlog.pe import Program
from kluis.formats.tpm.algorithm import HashId
from kluis.hashes import SIZES, Algorithm

ACTION: Final = b"Calling EFI Application from Boot Option"
SEPARATOR: Final = bytes(4)
SECTIONS: Final = (
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey",
)  # fmt: skip
"""Those that systemd's stub measures, in its order. Others that it would measure are not in our image."""
STUB: Final = 11
"""The PCR of systemd's stub."""
_UNKNOWN: Final = (".profile", ".dtbauto", ".hwids", ".efifw")


def registers(unified: bytes, algorithm: Algorithm = "sha256") -> dict[str, bytes]:
    """The PCRs of a unified kernel image, by name: ``pcr4``, ``pcr9``, ``pcr11`` and ``pcr12``.

    Raises:
        FormatError: not a unified kernel image.
    """
    program = _parse(unified)
    hashes = [hashlib.new(algorithm, data).digest() for data in (ACTION, SEPARATOR)]
    hashes += _programs(unified, algorithm)
    return {
        "pcr4": extend(hashes, algorithm),
        "pcr9": extend(_hashes(_kernel_events(program), algorithm), algorithm),
        "pcr11": extend(_hashes(_stub_events(program), algorithm), algorithm),
        "pcr12": bytes(SIZES[algorithm]),
    }


def predict_loaded(unified: bytes) -> bytes:
    """PCR 4 of SHA-256 if the monitor gives the image to OVMF, as ``kluis vm start --boot uefi`` does.

    OVMF then loads the image before its first boot option, so the same events have another order.

    Raises:
        FormatError: not a unified kernel image.
    """
    image, kernel = _programs(unified, "sha256")
    events = [hashlib.sha256(data).digest() for data in (ACTION, SEPARATOR)]
    return extend([image, *events, kernel], "sha256")


def rtmr2(unified: bytes) -> bytes:
    """TDX's RTMR 2 of a unified kernel image, 48 bytes; raises the errors of :func:`registers`."""
    program = _parse(unified)
    events = [*_stub_events(program), *_kernel_events(program)]
    return extend(_hashes(events, "sha384"), "sha384")


def extend(hashes: Iterable[bytes], algorithm: Algorithm) -> bytes:
    """A register that starts with zeros, after it was extended with each hash."""
    value = bytes(SIZES[algorithm])
    for each in hashes:
        value = hashlib.new(algorithm, value + each).digest()
    return value


def section_hashes(unified: bytes) -> dict[str, bytes]:
    """SHA-256 of each measured section, by name: which part of two images differs."""
    program = _parse(unified)
    return {
        name: hashlib.sha256(data).digest()
        for name in SECTIONS
        if (data := program.content(name)) is not None
    }


def logged_sections(log: EventLog) -> dict[str, bytes]:
    """SHA-256 of each section that a log has in PCR 11, by name, to be compared with :func:`section_hashes`.

    Only a log that explains the quoted PCR 11 proves them.
    """
    names = {hashlib.sha256(name.encode() + b"\0").digest(): name for name in SECTIONS}
    sections, name = dict[str, bytes](), None
    for event in log.events:
        if event.index != STUB or (digest := event.digest(HashId.SHA256)) is None:
            continue
        if name is not None:
            sections[name] = digest
        name = names.get(digest) if name is None else None
    return sections


@functools.lru_cache(maxsize=1)  # both orders of PCR 4 have the same two
def _programs(unified: bytes, algorithm: Algorithm) -> tuple[bytes, bytes]:
    """The hashes of the unified image and of the kernel in it, as firmware measures programs."""
    program = _parse(unified)
    return program.hash(algorithm), pe.parse(_content(program, ".linux"), "kernel").hash(algorithm)


def _parse(unified: bytes) -> Program:
    program = pe.parse(unified, "unified kernel image")
    for section in program.sections:
        if section.name in _UNKNOWN:
            raise FormatError(f"unified kernel image: want no section {section.name}, got one")
    return program


def _stub_events(program: Program) -> Iterator[bytes]:
    for name in SECTIONS:
        if (data := program.content(name)) is not None:
            yield name.encode() + b"\0"
            yield data


def _kernel_events(program: Program) -> Iterator[bytes]:
    yield (_content(program, ".cmdline").decode("ascii").rstrip("\0") + "\0").encode("utf-16-le")
    yield _align(_content(program, ".initrd")) + _build_extra(_content(program, ".osrel"))


def _build_extra(os_release: bytes) -> bytes:
    """The archive that systemd's stub appends to the initial RAM disk: ``/.extra/os-release``."""

    def entry(number: int, mode: int, size: int, path: bytes) -> bytes:
        fields = (number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(path) + 1, 0)
        return _align(b"070701" + b"".join(b"%08x" % field for field in fields) + path + b"\0")

    folder = entry(1, 0o40555, 0, b".extra")
    file = entry(2, 0o100444, len(os_release), b".extra/os-release") + _align(os_release)
    # The stub's constant, whose digits are capitals.
    end = (
        b"070701" + b"".join(b"%08X" % field for field in (0, 0, 0, 0, 1, *[0] * 6, 11, 0)) + b"TRAILER!!!\0"
    )
    return folder + file + _align(end)


def _align(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _content(program: Program, name: str) -> bytes:
    data = program.content(name)
    if data is None:
        raise FormatError(f"unified kernel image: want a section {name}, got none")
    return data


def _hashes(events: Iterable[bytes], algorithm: Algorithm) -> Iterator[bytes]:
    for data in events:
        yield hashlib.new(algorithm, data).digest()
