"""SGX report: the signed or MACed body, and the local report. Nothing here is verified.

Spec: Intel SDM vol. 3D, "REPORT" (EREPORT output); integers are little-endian. The key-separation and sharing
fields (extended product id, config id, config SVN, family id) have a meaning only if ``Flag.KSS`` is set.
"""

from __future__ import annotations

import enum
from typing import Final

from kluis.formats.encoding.layout import U16, U32, U64, Struct, at, layout

BODY_SIZE: Final = 384
SIZE: Final = 432


class Flag(enum.IntFlag):
    """Bits of the attribute flags. Spec: Intel SDM vol. 3D, "ATTRIBUTES"."""

    INIT = 0x01
    DEBUG = 0x02
    MODE64 = 0x04
    PROVISION_KEY = 0x10
    EINIT_TOKEN_KEY = 0x20
    CET = 0x40
    KSS = 0x80
    AEX_NOTIFY = 0x400


# Plain numbers: looking up a flag of an enum costs as much as reading a report.
DEBUG: Final = int(Flag.DEBUG)
KSS: Final = int(Flag.KSS)


@layout("SGX report body", BODY_SIZE)
class ReportBody(Struct):
    """The enclave's identity, its platform, and its 64 bytes of report data: 384 bytes."""

    cpusvn: bytes = at(0, 16)
    miscselect: int = at(16, U32)
    isvextprodid: bytes = at(32, 16)
    flags: int = at(48, U64)
    xfrm: int = at(56, U64)
    mrenclave: bytes = at(64, 32)
    mrsigner: bytes = at(128, 32)
    configid: bytes = at(192, 64)
    isvprodid: int = at(256, U16)
    isvsvn: int = at(258, U16)
    configsvn: int = at(260, U16)
    isvfamilyid: bytes = at(304, 16)
    report_data: bytes = at(320, 64)

    @property
    def debug(self) -> bool:
        """Whether the host can read the enclave's memory."""
        return bool(self.flags & DEBUG)


@layout("SGX report", SIZE)
class Report(Struct):
    """A body with a MAC that only the target enclave can check: 432 bytes.

    ``mac`` is AES-128-CMAC over the body, under the target's report key for ``key_id``.
    """

    body: ReportBody = at(0, ReportBody)
    key_id: bytes = at(384, 32)
    mac: bytes = at(416, 16)
