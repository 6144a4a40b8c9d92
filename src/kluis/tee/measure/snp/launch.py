"""Compute the launch measurement of a SEV-SNP guest, like the secure processor.

Spec: AMD 56860, SEV-SNP Firmware ABI, "Launch Digest" and "SNP_LAUNCH_UPDATE": the digest so far and
each page's PAGE_INFO, hashed with SHA-384, in the order in which the monitor adds pages.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import UsageError
from kluis.formats.snp import page_info
from kluis.formats.snp.firmware import PAGE, Firmware, Section, SectionKind
from kluis.formats.snp.page_info import PageInfo, PageType
from kluis.frozen import frozen
from kluis.hashes import Digest
from kluis.tee.measure.snp.kernel import KernelHashes
from kluis.tee.measure.snp.vcpu import RESET_ADDRESS, Monitor, save_area

MAX_VCPUS: Final = 4096
SNP_ACTIVE: Final = 1
_NOTHING: Final = bytes(48)
# The page is recorded at address -1: aligned, and without the bits above 51.
_VMSA_ADDRESS: Final = 0xFFFFFFFFF000


@frozen(kw_only=True)
class Guest:
    """The launch parameters of a guest.

    Attributes:
        firmware: the OVMF image.
        vcpus: 1..4096.
        cpu: CPUID signature of every virtual processor.
        kernel: hashes of kernel, initrd and command line, if the monitor loads them; else None.
        features: SEV features, 64 bits.
        monitor: that launches it.
    """

    firmware: Firmware
    vcpus: int
    cpu: int
    kernel: KernelHashes | None = None
    features: int = SNP_ACTIVE
    monitor: Monitor = Monitor.QEMU


class LaunchDigest:
    """The digest, extended page by page."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = _NOTHING

    def add(self, kind: PageType, address: int, contents: bytes | None = None) -> None:
        """Add one page at a guest physical address; without contents only its address is included."""
        info = PageInfo(
            digest=self.value,
            contents=_NOTHING if contents is None else Digest.of("sha384", contents).value,
            length=page_info.SIZE,
            page_type=kind,
            imi=0,
            vmpl3_perms=0,
            vmpl2_perms=0,
            vmpl1_perms=0,
            address=address,
        )
        self.value = Digest.of("sha384", info.encode()).value


def measure(guest: Guest) -> Digest:
    """Compute the measurement in reports of ``guest`` (SHA-384).

    Raises:
        UsageError: too many virtual processors, or a kernel that the firmware does not check.
        FormatError: the firmware does not have a needed address.
    """
    if not 1 <= guest.vcpus <= MAX_VCPUS:
        raise UsageError(f"vCPUs: want 1..{MAX_VCPUS}, got {guest.vcpus}")
    kinds = {section.kind for section in guest.firmware.sections}
    if guest.kernel is not None and SectionKind.KERNEL_HASHES not in kinds:
        raise UsageError(
            "OVMF: has no section for kernel hashes, so it would boot any kernel",
            hint="build it from OvmfPkg/AmdSev/AmdSevX64.dsc",
        )
    digest = LaunchDigest()
    _add_firmware(digest, guest.firmware)
    for section in _in_order(guest):
        _add_section(digest, section, guest)
    _add_processors(digest, guest)
    return Digest("sha384", digest.value)


def _add_firmware(digest: LaunchDigest, firmware: Firmware) -> None:
    view = memoryview(firmware.data)
    for offset in range(0, len(view), PAGE):
        digest.add(PageType.NORMAL, firmware.address + offset, bytes(view[offset : offset + PAGE]))


def _in_order(guest: Guest) -> list[Section]:
    if guest.monitor is not Monitor.EC2:
        return list(guest.firmware.sections)
    # Amazon's monitor adds the CPUID page after all others.
    return sorted(guest.firmware.sections, key=lambda section: section.kind is SectionKind.CPUID)


def _add_section(digest: LaunchDigest, section: Section, guest: Guest) -> None:
    match section.kind:
        case SectionKind.SECRETS:
            digest.add(PageType.SECRETS, section.address)
        case SectionKind.CPUID:
            digest.add(PageType.CPUID, section.address)
        case SectionKind.KERNEL_HASHES:
            _add_kernel(digest, section, guest)
        case SectionKind.MEMORY:
            google = guest.monitor is Monitor.GCE
            _add_empty(digest, section, PageType.UNMEASURED if google else PageType.ZERO)
        case SectionKind.SVSM_CALLING_AREA:
            _add_empty(digest, section, PageType.ZERO)


def _add_kernel(digest: LaunchDigest, section: Section, guest: Guest) -> None:
    if guest.kernel is None:
        _add_empty(digest, section, PageType.ZERO)
        return
    if section.size != PAGE:
        raise UsageError(f"OVMF: section for kernel hashes: want 1 page, got {section.size:#x} bytes")
    page = guest.kernel.page(guest.firmware.hash_table_address)
    digest.add(PageType.NORMAL, section.address, page)


def _add_empty(digest: LaunchDigest, section: Section, kind: PageType) -> None:
    for address in range(section.address, section.address + section.size, PAGE):
        digest.add(kind, address)


def _add_processors(digest: LaunchDigest, guest: Guest) -> None:
    first = save_area(RESET_ADDRESS, guest.cpu, guest.features, guest.monitor).encode()
    digest.add(PageType.VMSA, _VMSA_ADDRESS, first)
    if guest.vcpus > 1:
        address = guest.firmware.reset_address
        other = save_area(address, guest.cpu, guest.features, guest.monitor).encode()
        for _ in range(guest.vcpus - 1):
            digest.add(PageType.VMSA, _VMSA_ADDRESS, other)
