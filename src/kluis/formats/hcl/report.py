"""Parse the report in an Azure confidential VM's vTPM, NV index 0x01400001. Nothing here is verified.

Only the hardware's report and the runtime data are measured; the host side chooses every other field.
Little-endian.

Spec: Azure "Guest attestation of confidential VMs", "Attestation report"; OpenHCL,
``openhcl_attestation_protocol``.
"""

from __future__ import annotations

import enum
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.layout import U32, Struct, at, layout
from kluis.formats.encoding.reader import Reader
from kluis.frozen import frozen

WHAT: Final = "HCL report"
MAGIC: Final = b"HCLA"
MAX_SIZE: Final = 32 * 1024
MAX_RUNTIME: Final = 16 * 1024
HEADER_SIZE: Final = 32
HARDWARE_SIZE: Final = 1184
REQUEST_SIZE: Final = 20


class ReportType(enum.IntEnum):
    """The kind of hardware report."""

    VBS = 1
    SNP = 2
    TVM = 3
    TDX = 4
    CCA = 5


HASHES: Final = {1: "sha256", 2: "sha384", 3: "sha512"}


@layout("HCL report header", HEADER_SIZE)
class Header(Struct):
    """The first 32 bytes, unmeasured."""

    magic: bytes = at(0, 4)
    version: int = at(4, U32)
    report_size: int = at(8, U32)
    request_type: int = at(12, U32)
    status: int = at(16, U32)


@layout("HCL report request data", REQUEST_SIZE)
class Request(Struct):
    """The header of the runtime data, unmeasured: 20 bytes."""

    data_size: int = at(0, U32)
    version: int = at(4, U32)
    report_type: int = at(8, U32)
    hash_type: int = at(12, U32)
    runtime_size: int = at(16, U32)


@frozen(kw_only=True)
class HclReport:
    """A parsed report.

    Attributes:
        header: 32 bytes.
        hardware: 1184 bytes: an SNP report, a TDREPORT of 1024 bytes followed by zeros, or another report.
        request: 20 bytes.
        report_type: of ``hardware``, as stated in ``request``.
        hash: that binds the runtime data: ``sha256``, ``sha384`` or ``sha512``.
        capabilities: 4 bytes before the runtime data in request version 2; else empty.
        runtime: JSON, the exact bytes whose hash is the hardware's report data.
        padding: count of zero bytes after it.
    """

    header: Header
    hardware: bytes
    request: Request
    report_type: ReportType
    hash: str
    capabilities: bytes
    runtime: bytes
    padding: int

    def encode(self) -> bytes:
        """Write the report, including its padding."""
        return b"".join(
            (
                self.header.encode(),
                self.hardware,
                self.request.encode(),
                self.capabilities,
                self.runtime,
                bytes(self.padding),
            )
        )


def matches(data: bytes) -> bool:
    """Whether bytes start like a report."""
    return data[:4] == MAGIC


def parse(data: bytes) -> HclReport:
    """Parse one report; only zero bytes may follow the runtime data.

    Args:
        data: at most 32 KiB, of which at most 16 KiB runtime data.

    Raises:
        UnsupportedError: an unknown version or report type.
        FormatError: not a report, a size that does not fit, or an unknown hash.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    r = Reader(data, WHAT)
    header = Header.parse(r.take(HEADER_SIZE, "header"))
    if header.magic != MAGIC:
        raise FormatError(
            f"{WHAT}.magic at 0x0: want {MAGIC.hex()}, got {header.magic.hex()}", code="bad_magic"
        )
    if header.version not in (1, 2):
        raise UnsupportedError(f"{WHAT} version {header.version}; supported: [1, 2]", code="bad_version")
    hardware = r.take(HARDWARE_SIZE, "hardware report")
    start = r.position
    request = Request.parse(r.take(REQUEST_SIZE, "request data"), base=start)
    if request.version not in (1, 2):
        raise UnsupportedError(
            f"{WHAT}.request version at {start + 4:#x}: {request.version}; supported: [1, 2]",
            code="bad_version",
        )
    if request.report_type not in set(ReportType):
        raise UnsupportedError(
            f"{WHAT}.report type at {start + 8:#x}: want {[int(kind) for kind in ReportType]}, "
            f"got {request.report_type}",
            code="bad_type",
        )
    if request.hash_type not in HASHES:
        raise FormatError(
            f"{WHAT}.hash type at {start + 12:#x}: want {sorted(HASHES)}, got {request.hash_type}",
            code="bad_type",
        )
    if request.runtime_size > MAX_RUNTIME:
        raise FormatError(
            f"{WHAT}.runtime size at {start + 16:#x}: is {request.runtime_size}, "
            f"must be at most {MAX_RUNTIME}",
            code="too_large",
        )
    capabilities = r.take(4, "capabilities") if request.version == 2 else b""
    runtime = r.take(request.runtime_size, "runtime data")
    padding = r.left
    r.zeros(padding, "padding")
    return HclReport(
        header=header,
        hardware=hardware,
        request=request,
        report_type=ReportType(request.report_type),
        hash=HASHES[request.hash_type],
        capabilities=capabilities,
        runtime=runtime,
        padding=padding,
    )
