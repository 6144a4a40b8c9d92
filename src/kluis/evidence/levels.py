"""Protection levels: what each keeps out, and what it does not.

A level follows from the trust anchor that matched, never from the evidence's own claims.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kluis.frozen import frozen


class ProtectionLevel(enum.StrEnum):
    """The origin of the keys, worst first."""

    NONE = "none"
    PROCESS_USER = "process-user"
    PROCESS = "process"
    VM = "vm"
    VTPM = "vtpm"
    HARDWARE_GPU = "hardware-gpu"
    HARDWARE_CCA = "hardware-cca"
    HARDWARE_NITRO = "hardware-nitro"
    HARDWARE_SNP = "hardware-snp"
    HARDWARE_TDX = "hardware-tdx"
    HARDWARE_SGX = "hardware-sgx"

    @property
    def hardware(self) -> bool:
        """Whether a processor vendor certifies the keys, not this machine's operator."""
        return self.value.startswith("hardware-")


@frozen
class Meaning:
    """The meaning of a level, in words for the relying party.

    Attributes:
        keys: the origin of the keys.
        keeps_out: the attackers that it keeps out.
        lets_in: each thing that it does not keep out.
    """

    keys: str
    keeps_out: str
    lets_in: tuple[str, ...]


_HARDWARE: Final = (
    "side channels, as docs/threats.md names them",
    "physical attacks on the processor and its memory",
    "flaws that the vendor has not published, or that are not fixed on this platform",
)

MEANINGS: Final[Mapping[ProtectionLevel, Meaning]] = MappingProxyType(
    {
        # Also for genuine hardware in debug mode, and for a root without a stated level.
        ProtectionLevel.NONE: Meaning(
            "the party that its anchor names",
            "nobody: it is open to its host for debugging, or its anchor is of no stated level",
            ("anyone who may debug, trace or read it, above all its host",),
        ),
        ProtectionLevel.PROCESS_USER: Meaning(
            "a root of trust of the same user",
            "mistakes, and other users of the machine",
            (
                "every process of the same user: it can read the keys that sign this evidence",
                "root, and every program that root runs",
                "the kernel, its modules, and the machine's owner",
            ),
        ),
        ProtectionLevel.PROCESS: Meaning(
            "the local root of trust, under a separate user id",
            "other users, the host application, and root's ordinary tools",
            (
                "an active root: it can read the key files that sign this evidence",
                "an active root: perf stack dumps, uprobes, eBPF, patched code pages, kernel modules",
                "the kernel, and the machine's owner",
            ),
        ),
        ProtectionLevel.VM: Meaning(
            "the local root of trust",
            "every process on the host outside the virtual machine monitor",
            ("the host's root", "the host's kernel, and the machine's owner"),
        ),
        ProtectionLevel.VTPM: Meaning(
            "a TPM's vendor, or the cloud",
            "a boot that its PCRs did not measure",
            ("anyone who can read the machine's memory: its host, and its own root",),
        ),
        ProtectionLevel.HARDWARE_GPU: Meaning(
            "the vendor",
            "the host, from the accelerator's own memory",
            (
                "everything outside the accelerator, which needs a processor's evidence too",
                "a device opened to its developers' tools, which Hopper reports only in its measurements",
                *_HARDWARE,
            ),
        ),
        ProtectionLevel.HARDWARE_CCA: Meaning("the vendor", "the host and its administrators", _HARDWARE),
        ProtectionLevel.HARDWARE_NITRO: Meaning(
            "the cloud that owns the machine", "the instance that started it", _HARDWARE
        ),
        ProtectionLevel.HARDWARE_SNP: Meaning("the vendor", "the host and its administrators", _HARDWARE),
        ProtectionLevel.HARDWARE_TDX: Meaning("the vendor", "the host and its administrators", _HARDWARE),
        ProtectionLevel.HARDWARE_SGX: Meaning(
            "the vendor", "the host, its kernel and its administrators", _HARDWARE
        ),
    }
)
