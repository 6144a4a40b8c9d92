"""Check a report or quote that a device gave, before it is an endorsement; nothing is verified here."""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError
from kluis.formats import x509
from kluis.formats.sgx import quote as dcap
from kluis.formats.snp import report as snp_report
from kluis.formats.snp import response
from kluis.formats.snp import table as certificate_table
from kluis.formats.snp.endorsements import Endorsements
from kluis.formats.snp.flags import Flags, SigningKey
from kluis.formats.tdx.report import TdReport
from kluis.tee.driver import answers, check_equal

MAX_QUOTE: Final = 64 * 1024
_CHAIN: Final = 3
_LONG_SEQUENCE: Final = b"\x30\x82"


def snp_parts(
    name: str, data: bytes, table: bytes, report_data: bytes, level: int | None
) -> dict[str, bytes]:
    """The parts of an SNP endorsement: ``report``, ``certificates`` (PEM, leaf first) and ``crl`` if given.

    Args:
        name: of the driver.
        data: the report, 1184 bytes.
        table: the host's certificate table; may be empty, or zeros.
        report_data: 64 bytes, which the report must have.
        level: privilege level that the report must have; None if any.

    Raises:
        UnavailableError: a part is malformed, or not the requested one; code ``driver_answer``.
    """
    with answers(name):
        if len(data) != snp_report.SIZE:
            raise FormatError(f"SNP report: want {snp_report.SIZE} bytes, got {len(data)}")
        report = response.parse(data).report
        check_equal(name, "report data", report_data, report.report_data)
        if level is not None:
            check_equal(name, "privilege level", level, report.vmpl)
        parts = {"report": data}
        if any(table):
            vlek = Flags.parse(report.flags).signing_key is SigningKey.VLEK
            endorsements = Endorsements.from_table(certificate_table.parse(table), vlek=vlek)
            if chain := amd_chain(
                endorsements
            ):  # an incomplete one is of no use: the verifier gets it elsewhere
                parts["certificates"] = chain
            if endorsements.crl is not None:
                parts["crl"] = endorsements.crl
    return parts


def snp_response(
    name: str, data: bytes, report_data: bytes, table: bytes, level: int | None
) -> dict[str, bytes]:
    """The parts of an SNP endorsement, from the 4000 bytes that ``/dev/sev-guest`` returns.

    Raises:
        UnavailableError: as for :func:`snp_parts`.
    """
    with answers(name):
        report = response.parse(data).report.encode()
    return snp_parts(name, report, table, report_data, level)


def amd_chain(endorsements: Endorsements) -> bytes | None:
    """The certificates of a report's key, PEM, leaf first; None if one of the three is missing."""
    chain = [each for each in (endorsements.vek, endorsements.ask, endorsements.ark) if each is not None]
    return b"".join(_pem(each) for each in chain) if len(chain) == _CHAIN else None


def _pem(certificate: bytes) -> bytes:
    if certificate.startswith(b"-----BEGIN "):
        return certificate.rstrip(b"\0\r\n") + b"\n"
    return x509.write_pem(x509.parse(certificate, "SNP certificate").der)


def check_quote(name: str, data: bytes, report_data: bytes) -> None:
    """Check that ``data`` is a TD quote over 64 bytes of report data.

    Raises:
        UnavailableError: it is malformed, or another one; code ``driver_answer``.
    """
    with answers(name):
        if not data or len(data) > MAX_QUOTE:
            raise FormatError(f"TD quote: want 1..{MAX_QUOTE} bytes, got {len(data)}")
        body = dcap.parse(data).body
        if not isinstance(body, TdReport):
            raise FormatError("TD quote: is an SGX enclave's")
        check_equal(name, "report data", report_data, body.report_data)


def certificate(name: str, data: bytes) -> bytes:
    """The DER certificate in an NV index that zeros may pad.

    Raises:
        UnavailableError: it is malformed; code ``driver_answer``.
    """
    with answers(name):
        size = 4 + int.from_bytes(data[2:4], "big")
        if data[:2] != _LONG_SEQUENCE or len(data) < size or any(data[size:]):
            raise FormatError(f"certificate: {len(data)} bytes are not one")
        return x509.parse(data[:size], "certificate").der
