"""TDREPORT: the report that the TDX module gives a trust domain, before a quote. Nothing here is verified.

Only the same processor can check its MAC, so a TDREPORT proves nothing to others; a quote of it does.

Spec: Intel "TDX Module ABI", "TDREPORT_STRUCT", "REPORTMACSTRUCT", "TEE_TCB_INFO", "TDINFO_STRUCT".
"""

from __future__ import annotations

from typing import Final

from kluis.formats.encoding.layout import U8, U64, Struct, at, layout

SIZE: Final = 1024
MAC_SIZE: Final = 256
TCB_INFO_SIZE: Final = 239
TD_INFO_SIZE: Final = 512
TYPE_TDX: Final = 0x81


@layout("REPORTMACSTRUCT", MAC_SIZE)
class ReportMac(Struct):
    """The part that the processor MACs: 256 bytes. The hashes are SHA-384 of the two parts that follow it."""

    type: int = at(0, U8)
    subtype: int = at(1, U8)
    version: int = at(2, U8)
    cpusvn: bytes = at(16, 16)
    tee_tcb_info_hash: bytes = at(32, 48)
    tee_info_hash: bytes = at(80, 48)
    report_data: bytes = at(128, 64)
    mac: bytes = at(224, 32)


@layout("TEE_TCB_INFO", TCB_INFO_SIZE)
class TeeTcbInfo(Struct):
    """The module: 239 bytes. ``valid`` has a bit for each 8 bytes that are defined."""

    valid: int = at(0, U64)
    tee_tcb_svn: bytes = at(8, 16)
    mrseam: bytes = at(24, 48)
    mrsignerseam: bytes = at(72, 48)
    attributes: int = at(120, U64)
    tee_tcb_svn_2: bytes = at(128, 16)


@layout("TDINFO", TD_INFO_SIZE)
class TdInfo(Struct):
    """The trust domain: 512 bytes. TDX 1.0 leaves ``servtd_hash`` zero."""

    attributes: int = at(0, U64)
    xfam: int = at(8, U64)
    mrtd: bytes = at(16, 48)
    mrconfigid: bytes = at(64, 48)
    mrowner: bytes = at(112, 48)
    mrownerconfig: bytes = at(160, 48)
    rtmr0: bytes = at(208, 48)
    rtmr1: bytes = at(256, 48)
    rtmr2: bytes = at(304, 48)
    rtmr3: bytes = at(352, 48)
    servtd_hash: bytes = at(400, 48)


@layout("TDREPORT", SIZE)
class TdReportStruct(Struct):
    """MAC, module and trust domain: 1024 bytes."""

    mac: ReportMac = at(0, ReportMac)
    tcb_info: TeeTcbInfo = at(256, TeeTcbInfo)
    td_info: TdInfo = at(512, TdInfo)


def matches(data: bytes) -> bool:
    """Whether bytes have the length and type of a TDREPORT."""
    return len(data) == SIZE and data[:2] == bytes((TYPE_TDX, 0))
