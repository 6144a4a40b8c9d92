"""Measure a guest before anything boots: the values that its hardware will report.

Two ways to boot a guest are measured. With ``uefi`` firmware starts the unified kernel image, and registers
of a TPM or of TDX contain what boots. With ``direct`` the monitor loads kernel, initial RAM disk and command
line, and a SEV-SNP launch digest contains their hashes, if the firmware has a section for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal

from kluis.errors import UsageError
from kluis.formats.snp import firmware as ovmf
from kluis.formats.snp.firmware import SectionKind
from kluis.frozen import frozen
from kluis.tee.image import files
from kluis.tee.measure.snp import kernel, launch, vcpu
from kluis.tee.measure.snp.vcpu import Monitor
from kluis.tee.vm.guest import registers
from kluis.tee.vm.guest.guest import Guest

Boot = Literal["direct", "uefi"]
CPUS: Final = (1, 2, 4)
CPU: Final = "EPYC-v4"


@frozen
class Launch:
    """The SEV-SNP launch digest for one firmware and one number of virtual processors.

    Attributes:
        firmware: name of the file.
        boot: ``direct``: the digest contains kernel, initial RAM disk and command line; ``uefi``: only the
            firmware.
        cpus: number of virtual processors.
        digest: SHA-384.
    """

    firmware: str
    boot: Boot
    cpus: int
    digest: bytes


@frozen
class Measured:
    """The values of one guest.

    Attributes:
        release: of Kluis.
        pcrs: SHA-256 registers of a TPM after a boot by ``uefi``, by name: ``pcr4``, ``pcr9``, ``pcr11``,
            ``pcr12``.
        loaded: ``pcr4`` if the monitor gives the image to OVMF, as ``kluis vm start --boot uefi`` does.
        rtmr2: of TDX after a boot by ``uefi``, 48 bytes.
        launches: SEV-SNP launch digests.
        root_hash: of the root file system, 32 bytes; part of the command line.
        sections: SHA-256 of each measured section of the unified kernel image, by name.
    """

    release: str
    pcrs: dict[str, bytes]
    loaded: bytes
    rtmr2: bytes
    launches: tuple[Launch, ...]
    root_hash: bytes
    sections: dict[str, bytes]

    def document(self) -> dict[str, Any]:
        """All of it as JSON values, digests in hex."""
        return {
            "release": self.release,
            "root_hash": self.root_hash.hex(),
            "pcrs": {name: value.hex() for name, value in self.pcrs.items()},
            "pcr4_loaded": self.loaded.hex(),
            "rtmr2": self.rtmr2.hex(),
            "launches": [
                {"firmware": each.firmware, "boot": each.boot, "cpus": each.cpus, "digest": each.digest.hex()}
                for each in self.launches
            ],
            "sections": {name: value.hex() for name, value in self.sections.items()},
        }


def measure(
    guest: Guest,
    *,
    firmware: Iterable[Path] = (),
    boot: Boot | None = None,
    cpus: Iterable[int] = CPUS,
    cpu: str = CPU,
    monitor: Monitor = Monitor.QEMU,
) -> Measured:
    """Measure a guest.

    Args:
        guest: whose kernel, initial RAM disk and unified image were compared with their digests.
        firmware: images of OVMF for SEV-SNP launch digests.
        boot: only the digests of this way to boot; None: of both that a firmware allows.
        cpus: numbers of virtual processors, 1..4096 each.
        cpu: QEMU's processor type, or a signature like ``0xa00f11``.
        monitor: that launches the guest.

    Raises:
        FormatError: the unified kernel image or a firmware is malformed.
        UsageError: a file cannot be read, a wrong number or type of processors, or ``direct`` with a firmware
            that would boot any kernel.
    """
    unified = files.read(guest.unified)
    paths, counts = tuple(firmware), tuple(cpus)
    hashes = None
    if paths and boot != "uefi":
        hashes = kernel.hashes(files.read(guest.kernel), files.read(guest.initrd), guest.command_line)
    launches: list[Launch] = []
    for path in paths:
        image = ovmf.parse(files.read(path))
        checked = any(section.kind is SectionKind.KERNEL_HASHES for section in image.sections)
        if boot == "direct" and not checked:
            raise UsageError(
                f"{path}: has no section for kernel hashes, so it would boot any kernel",
                hint="measure it with --boot uefi, or build OVMF from OvmfPkg/AmdSev/AmdSevX64.dsc",
            )
        for way in ("direct", "uefi"):
            if (boot is not None and way != boot) or (way == "direct" and not checked):
                continue
            for count in counts:
                options = launch.Guest(
                    firmware=image,
                    vcpus=count,
                    cpu=vcpu.signature_of(cpu),
                    kernel=hashes if way == "direct" else None,
                    monitor=monitor,
                )
                launches.append(Launch(path.name, way, count, launch.measure(options).value))
    return Measured(
        release=guest.release,
        pcrs=registers.registers(unified),
        loaded=registers.predict_loaded(unified),
        rtmr2=registers.rtmr2(unified),
        launches=tuple(launches),
        root_hash=bytes.fromhex(guest.description.root_hash),
        sections=registers.section_hashes(unified),
    )
