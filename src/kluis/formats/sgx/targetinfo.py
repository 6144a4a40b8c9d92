"""SGX TARGETINFO: the enclave a report is made for.

Spec: Intel SDM vol. 3D, "TARGETINFO".
"""

from __future__ import annotations

from typing import Final

from kluis.formats.encoding.layout import U8, U16, U32, U64, Struct, at, layout
from kluis.formats.sgx.report import ReportBody

SIZE: Final = 512


@layout("SGX target info", SIZE)
class TargetInfo(Struct):
    """Everything that distinguishes the target's report key from every other: 512 bytes."""

    mrenclave: bytes = at(0, 32)
    flags: int = at(32, U64)
    xfrm: int = at(40, U64)
    cet_attributes: int = at(48, U8)
    configsvn: int = at(50, U16)
    miscselect: int = at(52, U32)
    configid: bytes = at(64, 64)


def target_of(body: ReportBody) -> TargetInfo:
    """The target info for the enclave whose own report body is ``body``."""
    return TargetInfo(
        mrenclave=body.mrenclave,
        flags=body.flags,
        xfrm=body.xfrm,
        cet_attributes=0,
        configsvn=body.configsvn,
        miscselect=body.miscselect,
        configid=body.configid,
    )
