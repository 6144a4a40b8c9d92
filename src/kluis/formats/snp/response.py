"""Parse a guest's report: bare, in the firmware's response, or followed by certificates.

Nothing here is verified. Spec: AMD 56860, SEV-SNP Firmware ABI, table "MSG_REPORT_RSP": status and
size (u32, little-endian), 24 reserved bytes, the report; Linux pads it to 4000 bytes.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding.reader import Reader
from kluis.formats.snp import report as snp_report
from kluis.formats.snp import table as certificate_table
from kluis.formats.snp.report import Report
from kluis.formats.snp.table import CertificateTable
from kluis.frozen import frozen

HEADER_SIZE: Final = 32
MAX_RESPONSE: Final = 4000
# Far more than any known version, and less than the first byte of a TDREPORT.
MOST_VERSION: Final = 0x7F
MAX_SIZE: Final = snp_report.SIZE + certificate_table.MAX_SIZE
_HEADER: Final = bytes(4) + snp_report.SIZE.to_bytes(4, "little") + bytes(24)
_WHAT: Final = "SNP report response"
_ALGORITHM_AT: Final = slice(0x34, 0x38)
_ECDSA_P384: Final = b"\1\0\0\0"


@frozen(kw_only=True)
class Response:
    """A report with the data around it.

    Attributes:
        signed: the report's first 0x2A0 bytes.
        report: the report.
        table: the certificates after it, or None.
        header: whether the firmware's 32 bytes precede it.
        padding: count of zero bytes after a report with a header.
    """

    signed: bytes
    report: Report
    table: CertificateTable | None = None
    header: bool = False
    padding: int = 0

    def encode(self) -> bytes:
        """Write the same bytes again."""
        table = self.table.encode() if self.table else b""
        return b"".join((_HEADER if self.header else b"", self.report.encode(), table, bytes(self.padding)))


def matches(data: bytes) -> bool:
    """Whether ``data`` starts like a report of any version, or like a firmware's response."""
    if data[:HEADER_SIZE] == _HEADER:
        return True
    if len(data) < 4 or (version := snp_report.version_of(data)) not in range(1, MOST_VERSION + 1):
        return False
    # An IMA log starts with a register number, so the signature algorithm identifies future report versions.
    return version in snp_report.VERSIONS or data[_ALGORITHM_AT] == _ECDSA_P384


def matches_signed(data: bytes) -> bool:
    """Whether ``data`` starts like a report signed with ECDSA P-384, or like a response around one."""
    return matches(data) and (data[:4] == bytes(4) or data[_ALGORITHM_AT] == _ECDSA_P384)


def parse(data: bytes) -> Response:
    """Parse a report, with or without a header before it or a certificate table after it.

    Raises:
        UnsupportedError: another version or signature algorithm.
        FormatError: lengths that do not fit, a status that is not 0, reserved bytes set.
    """
    if data[:4] == bytes(4):
        return _parse_response(data)
    if len(data) > MAX_SIZE:
        raise FormatError(f"SNP report: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    report = data[: snp_report.SIZE]
    rest = data[snp_report.SIZE :]
    return Response(
        signed=report[: snp_report.SIGNED_SIZE],
        report=snp_report.parse(report),
        table=certificate_table.parse(rest, base=snp_report.SIZE) if rest else None,
    )


def _parse_response(data: bytes) -> Response:
    if len(data) > MAX_RESPONSE:
        raise FormatError(f"{_WHAT}: is {len(data)} bytes, must be at most {MAX_RESPONSE}", code="too_large")
    r = Reader(data, _WHAT)
    r.zeros(4, "status")
    size = r.u32("report_size")
    if size != snp_report.SIZE:
        raise FormatError(
            f"{_WHAT}.report_size at 0x4: want {snp_report.SIZE}, got {size}", code="bad_length"
        )
    r.zeros(24, "reserved")
    report = r.take(size, "report")
    padding = r.left
    r.zeros(padding, "padding")
    return Response(
        signed=report[: snp_report.SIGNED_SIZE],
        report=snp_report.parse(report, base=HEADER_SIZE),
        header=True,
        padding=padding,
    )
