"""Parse reports of enclaves isolated by the Windows hypervisor (VBS). Nothing here is verified.

A header, the signed statement (the report with the enclave's data and identity, and a block for each module
that was loaded), and a signature of the secure kernel's key. Little-endian, packed.

Spec: Windows SDK, ``ntenclv.h``: VBS_ENCLAVE_REPORT_PKG_HEADER, VBS_ENCLAVE_REPORT, ENCLAVE_IDENTITY;
``winnt.h``: ENCLAVE_FLAG. What is signed, and how (RSASSA-PSS, SHA-256, MGF1 with SHA-256, 32 bytes of salt),
is what Microsoft's SQL Server drivers verify. The module blocks are signed but not parsed. Those drivers skip
them too, and no public document states whether a block's size includes its own header.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.layout import U32, Struct, at, layout
from kluis.formats.encoding.reader import Reader
from kluis.frozen import frozen

WHAT: Final = "VBS report"
HEADER_SIZE: Final = 24
REPORT_SIZE: Final = 224
RSA_PSS_SHA256: Final = 1
MAX_SIZE: Final = 64 * 1024
VERSION: Final = 1
# ENCLAVE_FLAG: full debug; dynamic debug, which can be turned on; dynamic debug, turned on.
DEBUG: Final = 0x1 | 0x2 | 0x4


@layout("VBS report header", HEADER_SIZE)
class Header(Struct):
    """The header of a report: 24 bytes, the last 4 reserved."""

    package_size: int = at(0, U32)
    version: int = at(4, U32)
    signature_scheme: int = at(8, U32)
    statement_size: int = at(12, U32)
    signature_size: int = at(16, U32)


@layout("VBS report", REPORT_SIZE)
class Report(Struct):
    """An enclave's report: 224 bytes. The enclave chooses ``enclave_data``."""

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
        """Whether the host can read the enclave's memory, or can enable this."""
        return bool(self.flags & DEBUG)


@frozen
class Package:
    """A report with its signature.

    Attributes:
        report: the enclave's report.
        signed: the bytes that the signature covers: the statement, from the report to the signature.
        signature: RSASSA-PSS with SHA-256.
    """

    report: Report
    signed: bytes
    signature: bytes


def parse(data: bytes) -> Package:
    """Parse one package; no bytes may follow it.

    Raises:
        UnsupportedError: another version, or another signature scheme.
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
    if header.version != VERSION:
        raise UnsupportedError(
            f"{WHAT}.version at 0x4: want {VERSION}, got {header.version}", code="bad_version"
        )
    if header.signature_scheme != RSA_PSS_SHA256:
        raise UnsupportedError(
            f"{WHAT}.signature_scheme at 0x8: want {RSA_PSS_SHA256}, got {header.signature_scheme}",
            code="bad_type",
        )
    signed = r.take(header.statement_size, "statement")
    signature = r.take(header.signature_size, "signature")
    r.end()
    if len(signed) < REPORT_SIZE:
        raise FormatError(
            f"{WHAT}.statement_size at 0xc: want at least {REPORT_SIZE}, got {len(signed)}", code="truncated"
        )
    report = Report.parse(signed[:REPORT_SIZE], base=HEADER_SIZE)
    if report.report_version != VERSION:
        raise UnsupportedError(
            f"{WHAT}.report_version at 0x1c: want {VERSION}, got {report.report_version}", code="bad_version"
        )
    if not REPORT_SIZE <= report.report_size <= len(signed):
        raise FormatError(
            f"{WHAT}.report_size at 0x18: want {REPORT_SIZE}..{len(signed)}, got {report.report_size}",
            code="bad_length",
        )
    return Package(report, signed, signature)
