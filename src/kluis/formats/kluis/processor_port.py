"""Requests to a machine's emulated processor, on the virtio-serial port ``kluis.psp``.

A request is one byte for its kind, and then:

| kind | request | answer |
|---|---|---|
| 1: report | 96 bytes, as ``SNP_GET_REPORT`` | 4000 bytes, as ``SNP_GET_REPORT`` |
| 2: derived key | 32 bytes, as ``SNP_GET_DERIVED_KEY`` | 64 bytes, as ``SNP_GET_DERIVED_KEY`` |
| 3: certificates | nothing | size (u32, little-endian) and VCEK, ASK, ARK in PEM; size and the CRL in DER |
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PORT: Final = "kluis.psp"
REPORT, KEY, CERTIFICATES = b"\1", b"\2", b"\3"
SIZES: Final[Mapping[bytes, int]] = MappingProxyType({REPORT: 96, KEY: 32, CERTIFICATES: 0})
"""Bytes of a request after its kind."""
SIZE_BYTES: Final = 4
