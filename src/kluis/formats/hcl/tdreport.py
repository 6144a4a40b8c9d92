"""TDREPORT, as the TDX module writes it for a local verifier: bytes to fields. Nothing here is verified.

Its MAC is under a key that never leaves the processor, so nobody elsewhere can check it. Little-endian.

Spec: Intel TDX Module ABI, "TDREPORT_STRUCT": REPORTMACSTRUCT, TEE_TCB_INFO, TDINFO_STRUCT.
"""

from __future__ import annotations

from typing import Final

from kluis.formats._layout import Struct, at, layout

SIZE: Final = 1024


@layout("TDREPORT", SIZE)
class TdReport(Struct):
    """What the TDX module says of a TD: 1024 bytes.

    ``type`` is 81 00 00 00 for a TD. ``report_data`` is what the TD bound; what ends in ``_hash`` is
    SHA-384 of a part below. ``tcb_info`` is TEE_TCB_INFO and ``extended`` the end of TDINFO that only
    later modules use: both whole.
    """

    type: bytes = at(0, 4)
    cpu_svn: bytes = at(16, 16)
    tcb_info_hash: bytes = at(32, 48)
    td_info_hash: bytes = at(80, 48)
    report_data: bytes = at(128, 64)
    mac: bytes = at(224, 32)
    tcb_info: bytes = at(256, 239)
    attributes: bytes = at(512, 8)
    xfam: bytes = at(520, 8)
    mrtd: bytes = at(528, 48)
    mrconfigid: bytes = at(576, 48)
    mrowner: bytes = at(624, 48)
    mrownerconfig: bytes = at(672, 48)
    rtmr0: bytes = at(720, 48)
    rtmr1: bytes = at(768, 48)
    rtmr2: bytes = at(816, 48)
    rtmr3: bytes = at(864, 48)
    extended: bytes = at(912, 112)
