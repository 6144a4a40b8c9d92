"""Azure's confidential VMs: the paravisor's report in the vTPM, a quote of its key, and IMDS for the rest.

A hardware report there is over keys that the paravisor chose, so the report data of an endorsement is the
nonce of the vTPM's quote.

Spec: Azure "Guest attestation of confidential VMs"; "THIM".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from kluis.errors import KluisError, UnavailableError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.formats.hcl import report as hcl_report
from kluis.formats.hcl import runtime as runtime_data
from kluis.formats.hcl.report import HclReport, ReportType
from kluis.formats.hcl.vtpm import AK, AK_CERTIFICATE, REPORT, USER_DATA
from kluis.formats.snp.endorsements import Endorsements
from kluis.formats.tdx import tdreport
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.command import OWNER
from kluis.formats.tpm.nv import NvAttribute, NvPublic
from kluis.tee.driver import answers, check_equal, check_report_data
from kluis.tee.drivers import reports
from kluis.tee.drivers.imds import Imds
from kluis.tee.tpm import quoting
from kluis.tee.tpm.stored import exists, nv_bytes
from kluis.tee.tpm.tpm import Tpm

CERTIFICATES: Final = "/metadata/THIM/amd/certification"
QUOTE: Final = "/acc/tdquote"
MAX_CERTIFICATE: Final = 4096
_WAITS: Final = 5
_ACCESS: Final = (
    NvAttribute.OWNER_READ | NvAttribute.OWNER_WRITE | NvAttribute.AUTH_READ | NvAttribute.AUTH_WRITE
)
_KINDS: Final = {ReportType.SNP: "azure-snp", ReportType.TDX: "azure-tdx"}


class Azure:
    """The driver of Azure.

    Args:
        tpm: opens the vTPM.
        imds: the metadata service.
        event_log: of the firmware.
        sleep: waits for so many seconds.
        certificates: returns the parts ``certificates`` and, if there is one, ``crl``; by default from the
            metadata service.
    """

    name = "azure"

    def __init__(
        self,
        tpm: Callable[[], Tpm] = Tpm.open,
        imds: Imds | None = None,
        event_log: Path = quoting.EVENT_LOG,
        sleep: Callable[[float], None] = time.sleep,
        certificates: Callable[[], Mapping[str, bytes]] | None = None,
    ) -> None:
        self._tpm = tpm
        self._imds = imds or Imds()
        self._event_log = event_log
        self._sleep = sleep
        self._get_certificates = certificates or self._thim

    def available(self) -> str | None:
        """Why it cannot be used; None if it can."""
        try:
            self.kind()
        except KluisError as error:
            return error.message
        return None

    def kind(self) -> str:
        """``azure-snp`` or ``azure-tdx``."""
        with answers(self.name), self._tpm() as tpm:
            return self._kind(self._report(tpm))

    def _kind(self, report: HclReport) -> str:
        if report.report_type not in _KINDS:
            raise UnavailableError(
                f"azure: want a report of SNP or TDX, got {report.report_type.name}: the VM has no TEE",
                code="driver_absent",
            )
        return _KINDS[report.report_type]

    def endorse(self, report_data: bytes) -> Mapping[str, bytes]:
        """Get the paravisor's report, the vTPM's quote, and the certificates or the TD quote of IMDS."""
        check_report_data(report_data)
        nonce = quoting.nonce_of(report_data)
        with answers(self.name), self._tpm() as tpm:
            report = self._fresh(tpm, report_data)
            kind = self._kind(report)
            self._check_key(tpm, report)
            quoted = quoting.quote(tpm, AK, nonce)
        parts = {"hcl": report.encode(), **quoted.parts()}
        if log := quoting.event_log(self._event_log):
            parts["event_log"] = log
        if kind == "azure-snp":
            parts.update(self._get_certificates())
        else:
            parts["td_quote"] = self._td_quote(report)
        return parts

    def seal_secret(self) -> None:
        """None: the paravisor keeps the hardware's keys; what is sealed here is sealed to the vTPM."""
        return

    def ak_certificate(self) -> bytes | None:
        """The certificate of the vTPM's attestation key, DER; None on older hosts."""
        with answers(self.name), self._tpm() as tpm:
            if not exists(tpm, AK_CERTIFICATE):
                return None
            return reports.certificate(self.name, nv_bytes(tpm, AK_CERTIFICATE, MAX_CERTIFICATE))

    def _report(self, tpm: Tpm) -> HclReport:
        if not exists(tpm, REPORT):
            raise UnavailableError(
                f"azure: the TPM has no report in NV index {REPORT:#x}: this is no confidential VM of Azure",
                code="driver_absent",
            )
        with answers(self.name):
            return hcl_report.parse(nv_bytes(tpm, REPORT, hcl_report.MAX_SIZE))

    def _fresh(self, tpm: Tpm, report_data: bytes) -> HclReport:
        """Write the user data, and wait until a new report contains them; older hosts leave them out."""
        if not exists(tpm, USER_DATA):
            tpm.nv_define(
                NvPublic(
                    index=USER_DATA,
                    name_hash=HashId.SHA256,
                    attributes=_ACCESS,
                    policy=b"",
                    size=len(report_data),
                )
            )
        tpm.nv_write(USER_DATA, report_data, by=OWNER)
        report = self._report(tpm)
        for _ in range(_WAITS):
            with answers(self.name):
                if runtime_data.parse(report.runtime).user_data in (None, report_data):
                    break
            self._sleep(1)
            report = self._report(tpm)
        return report

    def _check_key(self, tpm: Tpm, report: HclReport) -> None:
        if not exists(tpm, AK):
            raise UnavailableError(
                f"azure: the TPM has no attestation key {AK:#x}",
                hint="the paravisor makes it when the VM is created: re-deploy the VM",
                code="driver_absent",
            )
        with answers(self.name):
            want = runtime_data.parse(report.runtime).ak
        check_equal(self.name, "attestation key", want, tpm.read_public(AK).spki)

    def _thim(self) -> Mapping[str, bytes]:
        with answers(self.name):
            chain = reports.amd_chain(Endorsements.from_thim(self._imds.get(CERTIFICATES)))
        return {"certificates": chain or b""}

    def _td_quote(self, report: HclReport) -> bytes:
        body = jcs.dumps({"report": b64.encode_url(report.hardware[: tdreport.SIZE])})
        answer = self._imds.post(QUOTE, body)
        with answers(self.name):
            what = "IMDS TD quote"
            members = Members(jcs.loads(answer, what, max_size=2 * reports.MAX_QUOTE), what)
            quote = b64.decode_url(members.text("quote"), f"{what}.quote")
            mac = tdreport.ReportMac.parse(report.hardware[: tdreport.MAC_SIZE])
        reports.check_quote(self.name, quote, mac.report_data)
        return quote
