"""The initial state of a virtual processor of a SEV-SNP guest, by monitor and by type.

Spec: AMD 25481, CPUID, "Fn0000_0001_EAX Family, Model, Stepping Identifiers"; QEMU, builtin_x86_defs
in target/i386/cpu.c; Linux, init_vmcb in arch/x86/kvm/svm/svm.c.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from kluis.errors import UsageError
from kluis.formats.snp.vmsa import SaveArea, Segment

RESET_ADDRESS: Final = 0xFFFFFFF0
_PAT: Final = 0x0007040600070406
_GCE_PAT: Final = 0x00070106
_AMAZON_DX: Final = 0x600


class Monitor(enum.StrEnum):
    """The monitor that launches the guest; monitors set registers differently."""

    QEMU = "qemu"
    EC2 = "ec2"
    GCE = "gce"


def signature(family: int, model: int, stepping: int) -> int:
    """The CPUID signature of a processor; extended family and model above 15."""
    low = min(family, 0xF)
    return family - low << 20 | (model >> 4) << 16 | low << 8 | (model & 0xF) << 4 | stepping


_NAPLES: Final = signature(23, 1, 2)
_ROME: Final = signature(23, 49, 0)
_MILAN: Final = signature(25, 1, 1)
_GENOA: Final = signature(25, 17, 0)
_TURIN: Final = signature(26, 0, 0)
TYPES: Final[dict[str, int]] = {
    **dict.fromkeys(("EPYC", "EPYC-v1", "EPYC-v2", "EPYC-IBPB", "EPYC-v3", "EPYC-v4"), _NAPLES),
    **dict.fromkeys(("EPYC-Rome", "EPYC-Rome-v1", "EPYC-Rome-v2", "EPYC-Rome-v3"), _ROME),
    **dict.fromkeys(("EPYC-Milan", "EPYC-Milan-v1", "EPYC-Milan-v2"), _MILAN),
    **dict.fromkeys(("EPYC-Genoa", "EPYC-Genoa-v1"), _GENOA),
    "EPYC-Turin": _TURIN,
}
_HEX: Final = re.compile(r"0x[0-9a-fA-F]{1,8}", re.ASCII)


def signature_of(name: str) -> int:
    """The signature of QEMU's processor type, or of ``0x...`` itself.

    Raises:
        UsageError: no such type.
    """
    if name in TYPES:
        return TYPES[name]
    if _HEX.fullmatch(name):
        return int(name, 16)
    raise UsageError(
        f"vCPU type: want one of {', '.join(TYPES)}, or a signature like 0xa00f11, got {name!a}",
        hint="--vcpu-type EPYC-v4",
    )


def save_area(address: int, cpu: int, features: int, monitor: Monitor) -> SaveArea:
    """A processor's initial state.

    Args:
        address: its first instruction, 32 bits.
        cpu: its CPUID signature.
        features: the guest's SEV features; 1 is only SNP.
        monitor: that launches it.
    """
    qemu, ec2 = monitor is Monitor.QEMU, monitor is Monitor.EC2
    code = 0x9A if ec2 and address == RESET_ADDRESS else 0x9B
    data = Segment(selector=0, attributes=0x93, limit=0xFFFF, base=0)
    table = Segment(selector=0, attributes=0, limit=0xFFFF, base=0)
    return SaveArea(
        es=data,
        cs=Segment(selector=0xF000, attributes=code, limit=0xFFFF, base=address & 0xFFFF0000),
        ss=Segment(selector=0, attributes=0x92 if ec2 else 0x93, limit=0xFFFF, base=0),
        ds=data,
        fs=data,
        gs=data,
        gdtr=table,
        ldtr=Segment(selector=0, attributes=0x82, limit=0xFFFF, base=0),
        idtr=table,
        tr=Segment(selector=0, attributes=0x83 if ec2 else 0x8B, limit=0xFFFF, base=0),
        efer=0x1000,  # KVM turns SVME on
        cr4=0x40,  # and machine checks
        cr0=0x10,
        dr7=0x400,
        dr6=0xFFFF0FF0,
        rflags=0x2,
        rip=address & 0xFFFF,
        g_pat=_GCE_PAT if monitor is Monitor.GCE else _PAT,
        rdx=cpu if qemu else _AMAZON_DX,
        sev_features=features,
        xcr0=1,
        mxcsr=0x1F80 if qemu else 0,
        x87_fcw=0x37F if qemu else 0,
    )
