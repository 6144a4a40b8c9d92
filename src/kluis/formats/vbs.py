"""Reports of enclaves that Windows' hypervisor isolates (VBS): bytes to fields. Nothing here is verified.

A header, the report with the enclave's data and identity, what else was loaded, and a signature of the
secure kernel's key. Little-endian.

Spec: Windows SDK, ``ntenclv.h``: VBS_ENCLAVE_REPORT_PKG_HEADER, VBS_ENCLAVE_REPORT, ENCLAVE_IDENTITY.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats._layout import U32, Struct, at, layout
from kluis.formats._reader import Reader

WHAT: Final = "VBS report"
HEADER_SIZE: Final = 20
REPORT_SIZE: Final = 224
RSA_PSS_SHA256: Final = 1
MAX_SIZE: Final = 64 * 1024
DEBUG: Final = 0x1


@layout("VBS report header", HEADER_SIZE)
class Header(Struct):
    """What stands before a report: 20 bytes."""

    package_size: int = at(0, U32)
    version: int = at(4, U32)
    signature_scheme: int = at(8, U32)
    signature_size: int = at(12, U32)


@layout("VBS report", REPORT_SIZE)
class Report(Struct):
    """An enclave's report: 224 bytes. ``enclave_data`` is the enclave's own choice."""

    report_size: int = at(0, U32)
    report_version: int = at(4, U32)
    enclave_data: bytes = at(8, 64)
    owner_id: bytes = at(72, 32)
    unique_id: bytes = at(104, 32)
    author_id: bytes = at(136, 32)
    family_id: bytes = at(168, 16)
    image_id: bytes = at(184, 16)
    enclave_svn: int = at(200, U32)
    secure_kernel_svn: int = at(204, U32)
    platform_svn: int = at(208, U32)
    flags: int = at(212, U32)
    signing_level: int = at(216, U32)
    enclave_type: int = at(220, U32)

    @property
    def debug(self) -> bool:
        """Whether the enclave's memory is open to its host."""
        return bool(self.flags & DEBUG)


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """A report and its signature.

    Attributes:
        report: the enclave's.
        signed: the bytes that the signature is over: from the report to the signature.
        signature: RSA-PSS with SHA-256.
    """

    report: Report
    signed: bytes
    signature: bytes


def parse(data: bytes) -> Package:
    """Read one package; nothing may follow it.

    Raises:
        UnsupportedError: another signature scheme.
        FormatError: sizes that do not fit.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    r = Reader(data, WHAT)
    header = Header.parse(r.take(HEADER_SIZE, "header"))
    if header.package_size != len(data):
        raise FormatError(
            f"{WHAT}.package_size at 0x0: want {len(data)}, got {header.package_size}", code="bad_length"
        )
    if header.signature_scheme != RSA_PSS_SHA256:
        raise UnsupportedError(
            f"{WHAT}.signature_scheme at 0x8: want {RSA_PSS_SHA256}, got {header.signature_scheme}",
            code="bad_type",
        )
    report = Report.parse(r.take(REPORT_SIZE, "report"), base=HEADER_SIZE)
    if header.signature_size > r.left or report.report_size < REPORT_SIZE:
        raise FormatError(f"{WHAT}: sizes do not fit", code="bad_length")
    r.take(r.left - header.signature_size, "modules")
    signature = r.take(header.signature_size, "signature")
    return Package(report, data[HEADER_SIZE : len(data) - header.signature_size], signature)
