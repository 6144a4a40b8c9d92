"""Parse TDX report bodies, as signed in a quote, and write them back. Nothing here is verified.

Spec: Intel "TDX DCAP Quoting Library API", "TD Quote Body", for TDX 1.0 and 1.5, and the same of
Intel's quote verification library for 1.5-Ex. Integers are little-endian; measurements are SHA-384.
"""

from __future__ import annotations

import enum
from typing import Final

from kluis.formats.encoding.layout import U8, U64, Struct, at, layout

SIZE: Final = 584
SIZE_15: Final = 648
SIZE_15_EX: Final = 885
UNDER_DEBUG: Final = 0xFF


class Attribute(enum.IntFlag):
    """Bits of TD attributes. Spec: Intel "TDX Module ABI", "ATTRIBUTES". Bits 0 to 7 are "under debug"."""

    DEBUG = 1 << 0
    LASS = 1 << 27
    SEPT_VE_DISABLE = 1 << 28
    MIGRATABLE = 1 << 29
    PKS = 1 << 30
    KL = 1 << 31
    PERFMON = 1 << 63


@layout("TD report", SIZE)
class TdReport(Struct):
    """TDX 1.0: the module, the trust domain, and its 64 bytes of report data: 584 bytes.

    ``tee_tcb_svn`` is that of the module at launch: its minor SVN, its major version, 14 component SVNs. The
    host chooses ``mrconfigid``, ``mrowner`` and ``mrownerconfig``, which are measured.
    """

    tee_tcb_svn: bytes = at(0, 16)
    mrseam: bytes = at(16, 48)
    mrsignerseam: bytes = at(64, 48)
    seam_attributes: int = at(112, U64)
    td_attributes: int = at(120, U64)
    xfam: int = at(128, U64)
    mrtd: bytes = at(136, 48)
    mrconfigid: bytes = at(184, 48)
    mrowner: bytes = at(232, 48)
    mrownerconfig: bytes = at(280, 48)
    rtmr0: bytes = at(328, 48)
    rtmr1: bytes = at(376, 48)
    rtmr2: bytes = at(424, 48)
    rtmr3: bytes = at(472, 48)
    report_data: bytes = at(520, 64)

    @property
    def debug(self) -> bool:
        """Whether the host can read the domain's memory: any bit of the "under debug" byte."""
        return bool(self.td_attributes & UNDER_DEBUG)

    @property
    def module_version(self) -> int:
        """The module's major version: 0 for TDX 1.0, 1 for TDX 1.5."""
        return self.tee_tcb_svn[1]


@layout("TD report 1.5", SIZE_15)
class TdReport15(TdReport):
    """TDX 1.5 adds the module that runs now, and the service domain bound to this one: 648 bytes.

    ``mrservicetd`` is zero if no service domain (for migration) is bound.
    """

    tee_tcb_svn_2: bytes = at(584, 16)
    mrservicetd: bytes = at(600, 48)


@layout("TD report 1.5-Ex", SIZE_15_EX)
class TdReport15Ex(TdReport15):
    """TDX 1.5-Ex adds the domain's name, its devices, and its origin before migration: 885 bytes."""

    vmid: int = at(648, U8)
    td_id: bytes = at(649, 32)
    dev_info: bytes = at(681, 48)
    init_servtd_hash: bytes = at(729, 48)
    init_servtd_attr: int = at(777, U64)
    init_cpusvn: bytes = at(785, 16)
    init_tee_tcb_svn: bytes = at(801, 16)
    init_tee_fmspc: bytes = at(817, 12)
    cur_servtd_hash: bytes = at(829, 48)
    cur_servtd_attr: int = at(877, U64)
