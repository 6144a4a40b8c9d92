"""PAGE_INFO: the structure that the firmware hashes for each page of a launch.

Spec: AMD 56860, SEV-SNP Firmware ABI, "SNP_LAUNCH_UPDATE", table "Layout of the PAGE_INFO
Structure". Integers are little-endian.
"""

from __future__ import annotations

import enum
from typing import Final

from kluis.formats.encoding.layout import U8, U16, U64, Struct, at, layout

SIZE: Final = 0x70


class PageType(enum.IntEnum):
    """The purpose of a page."""

    NORMAL = 1
    VMSA = 2
    ZERO = 3
    UNMEASURED = 4
    SECRETS = 5
    CPUID = 6


@layout("PAGE_INFO", SIZE)
class PageInfo(Struct):
    """One page: the digest so far, its contents' SHA-384 (or zeros), its type and address."""

    digest: bytes = at(0x00, 48)
    contents: bytes = at(0x30, 48)
    length: int = at(0x60, U16)
    page_type: int = at(0x62, U8)
    imi: int = at(0x63, U8)
    vmpl3_perms: int = at(0x64, U8)
    vmpl2_perms: int = at(0x65, U8)
    vmpl1_perms: int = at(0x66, U8)
    address: int = at(0x68, U64)
