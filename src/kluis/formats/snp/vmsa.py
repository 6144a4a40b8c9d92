"""The save area (VMSA) with a virtual processor's initial state: one page, measured at launch.

Only the fields that a launch sets are named; all other bytes are zero.

Spec: AMD 24593, AMD64 Architecture Programmer's Manual vol. 2, "VMSA Layout, State Save Area for
SEV-ES". Integers are little-endian.
"""

from __future__ import annotations

from typing import Final

from kluis.formats.encoding.layout import U16, U32, U64, Struct, at, layout

SIZE: Final = 4096


@layout("VMSA segment", 16)
class Segment(Struct):
    """A segment register."""

    selector: int = at(0, U16)
    attributes: int = at(2, U16)
    limit: int = at(4, U32)
    base: int = at(8, U64)


@layout("VMSA", SIZE)
class SaveArea(Struct):
    """A processor's state."""

    es: Segment = at(0x000, Segment)
    cs: Segment = at(0x010, Segment)
    ss: Segment = at(0x020, Segment)
    ds: Segment = at(0x030, Segment)
    fs: Segment = at(0x040, Segment)
    gs: Segment = at(0x050, Segment)
    gdtr: Segment = at(0x060, Segment)
    ldtr: Segment = at(0x070, Segment)
    idtr: Segment = at(0x080, Segment)
    tr: Segment = at(0x090, Segment)
    efer: int = at(0x0D0, U64)
    cr4: int = at(0x148, U64)
    cr0: int = at(0x158, U64)
    dr7: int = at(0x160, U64)
    dr6: int = at(0x168, U64)
    rflags: int = at(0x170, U64)
    rip: int = at(0x178, U64)
    g_pat: int = at(0x268, U64)
    rdx: int = at(0x310, U64)
    sev_features: int = at(0x3B0, U64)
    xcr0: int = at(0x3E8, U64)
    mxcsr: int = at(0x408, U32)
    x87_fcw: int = at(0x410, U16)
