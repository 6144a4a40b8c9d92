"""Measure a machine as the emulated processor does: a SEV-SNP launch digest with hashes of what it boots.

QEMU's own BIOS has no section for the hashes of kernel, initial RAM disk and command line. The digest is that
of a firmware which has one: the BIOS, and a page of metadata after it, as :func:`firmware_of` writes it. What
starts is the BIOS.

Spec: EDK II, OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm; QEMU, target/i386/sev.c.
"""

from __future__ import annotations

import os
from typing import Final

from kluis.authority.amd import Launch
from kluis.authority.amd.reports import guest_policy
from kluis.formats.snp import firmware as ovmf
from kluis.formats.snp.firmware import FOOTER, FROM_END, HASH_TABLE, METADATA, PAGE, RESET_BLOCK, SectionKind
from kluis.tee.measure.snp import kernel, launch, vcpu

CPU: Final = "EPYC-v4"
NO_IMAGE: Final = bytes(32)
_SECTIONS: Final = (
    (0x0080D000, PAGE, SectionKind.SECRETS),
    (0x0080E000, PAGE, SectionKind.CPUID),
    (0x0080F000, PAGE, SectionKind.KERNEL_HASHES),
)
_HASHES: Final = 0x0080F000
_RESET: Final = 0xFFFFFFF0
_METADATA_FROM_END: Final = 0x800


def firmware_of(bios: bytes) -> bytes:
    """The firmware that a digest is of: the BIOS in whole pages, and a page of metadata."""
    page = bytearray(PAGE)
    entries = (
        (HASH_TABLE, _u32(_HASHES) + _u32(PAGE)),
        (METADATA, _u32(_METADATA_FROM_END)),
        (RESET_BLOCK, _u32(_RESET)),
    )
    table = b"".join(data + (len(data) + 18).to_bytes(2, "little") + name for name, data in entries)
    table += (len(table) + 18).to_bytes(2, "little") + FOOTER
    page[PAGE - FROM_END - len(table) : PAGE - FROM_END] = table
    sections = b"".join(_u32(address) + _u32(size) + _u32(kind) for address, size, kind in _SECTIONS)
    metadata = b"ASEV" + _u32(16 + len(sections)) + _u32(1) + _u32(len(_SECTIONS)) + sections
    page[PAGE - _METADATA_FROM_END : PAGE - _METADATA_FROM_END + len(metadata)] = metadata
    return bytes(-len(bios) % PAGE) + bios + bytes(page)


def measure(bios: bytes, kernel_image: bytes, initrd: bytes, command_line: str, cpus: int) -> bytes:
    """The launch digest of a machine that boots directly, 48 bytes.

    Raises:
        UsageError: a wrong number of processors.
    """
    options = launch.Guest(
        firmware=ovmf.parse(firmware_of(bios)),
        vcpus=cpus,
        cpu=vcpu.signature_of(CPU),
        kernel=kernel.hashes(kernel_image, initrd, command_line),
    )
    return launch.measure(options).value


def measure_firmware(firmware: bytes, cpus: int) -> bytes:
    """The launch digest of a machine that boots by ``uefi``, 48 bytes: only of OVMF, as Debian builds it.

    Raises:
        FormatError: the firmware has no metadata for SEV-SNP.
        UsageError: a wrong number of processors.
    """
    options = launch.Guest(firmware=ovmf.parse(firmware), vcpus=cpus, cpu=vcpu.signature_of(CPU))
    return launch.measure(options).value


def describe_launch(digest: bytes, *, debug: bool = False, only: bytes | None = None) -> Launch:
    """What the processor knows about a machine that is about to start.

    Args:
        digest: from :func:`measure`.
        debug: whether the machine lets its host look inside.
        only: the image id of the only image that it runs, 32 bytes; None if it may run any.
    """
    return Launch(
        measurement=digest,
        report_id=os.urandom(32),
        policy=guest_policy(debug=debug),
        host_data=NO_IMAGE if only is None else only,
    )


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")
