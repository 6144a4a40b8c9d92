"""An Azure confidential VM, made by hand on forged hardware: one thing wrong on request."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from kluis.evidence import AzureEndorsements, Claims, TpmEndorsements, TrustAnchors, verify
from kluis.formats.hcl.report import ReportType
from kluis.formats.tdx.tdreport import ReportMac, TdInfo, TdReportStruct, TeeTcbInfo
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.signature import RsaSignature
from tests.evidence.amd.forge import Forge as SnpForge
from tests.evidence.amd.forge import sign as sign_snp
from tests.evidence.intel.forge import TdxForge
from tests.evidence.tpm.forge import SELECTED, VALUES, Maker, collection, quote, rsa_key, sign
from tests.formats.hcl.reports import hcl_report, runtime_json


class AzureForge:
    """One VM on SNP and one on TDX, with one vTPM key between them."""

    def __init__(self) -> None:
        self.amd = SnpForge("Milan")
        self.intel = TdxForge("process")
        self.now = self.intel.now
        self.maker = Maker()
        self.ak = rsa_key()
        modulus = self.ak.public_key().public_numbers().n
        self.runtime = runtime_json(modulus)
        self.no_tpm = runtime_json(modulus, vm_configuration={"tpm-enabled": False})
        self.anchors: TrustAnchors = self.amd.anchors | self.intel.anchors | self.maker.anchors

    def bound(self, runtime: bytes | None = None, name: str = "sha256") -> bytes:
        """Report data that bind runtime data."""
        return hashlib.new(name, self.runtime if runtime is None else runtime).digest().ljust(64, b"\0")

    def snp(self, runtime: bytes | None = None, **changes: Any) -> bytes:
        """An HCL report of an SNP report, which binds its runtime data by default."""
        held = self.runtime if runtime is None else runtime
        options = {name: changes.pop(name) for name in ("hash_type", "kind") if name in changes}
        fields = {"report_data": self.bound(held), "vmpl": 0, **changes}
        return hcl_report(self.amd.report(**fields), held, **options).encode()

    def resigned(self, report: bytes) -> bytes:
        """An SNP report, signed again by the forger's own chip."""
        return sign_snp(report, self.amd.vek_key)

    def tdreport(self, **changes: Any) -> TdReportStruct:
        """The TDREPORT of the forger's domain."""
        td = self.intel.td(report_data=self.bound())
        module = TeeTcbInfo(
            valid=0x3FF,
            tee_tcb_svn=td.tee_tcb_svn,
            mrseam=td.mrseam,
            mrsignerseam=td.mrsignerseam,
            attributes=td.seam_attributes,
            tee_tcb_svn_2=bytes(16),
        )
        names = ("xfam", "mrtd", "mrconfigid", "mrowner", "mrownerconfig", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
        domain = TdInfo(
            **{
                **{name: getattr(td, name) for name in names},
                "attributes": td.td_attributes,
                "servtd_hash": bytes(48),
                **changes,
            }
        )
        mac = ReportMac(
            type=0x81,
            subtype=0,
            version=0,
            cpusvn=bytes(16),
            tee_tcb_info_hash=hashlib.sha384(module.encode()).digest(),
            tee_info_hash=hashlib.sha384(domain.encode()).digest(),
            report_data=td.report_data,
            mac=bytes(32),
        )
        return TdReportStruct(mac=mac, tcb_info=module, td_info=domain)

    def of_one_piece(self, report: TdReportStruct) -> TdReportStruct:
        """The TDREPORT with the hashes of its parts."""
        mac = dataclasses.replace(
            report.mac,
            tee_tcb_info_hash=hashlib.sha384(report.tcb_info.encode()).digest(),
            tee_info_hash=hashlib.sha384(report.td_info.encode()).digest(),
        )
        return dataclasses.replace(report, mac=mac)

    def tdx(self, report: TdReportStruct | None = None, hardware: bytes | None = None) -> bytes:
        """An HCL report of a TDREPORT."""
        held = (report or self.tdreport()).encode() if hardware is None else hardware
        return hcl_report(held, self.runtime, ReportType.TDX, version=2).encode()

    def td_quote(self, **changes: Any) -> bytes:
        """The TD quote of that TDREPORT."""
        return self.intel.quote(self.intel.td(**{"report_data": self.bound(), **changes}))

    def tpm(self, *, raw: bool = True, **parts: bytes) -> dict[str, bytes]:
        """The vTPM's parts."""
        message = parts.get("tpm_quote", quote(VALUES, SELECTED).encode())
        signed = sign(self.ak, message)
        assert isinstance(signed, RsaSignature)
        value = signed.value if raw else signed.encode()
        return {"tpm_quote": message, "tpm_signature": value, "pcrs": pcrs.dumps(VALUES), **parts}

    def parts(self, report: bytes, **parts: bytes) -> bytes:
        """A collection around a report."""
        return collection({"hcl_report": report, **parts})

    def endorsements(self, ak: TpmEndorsements | None = None) -> AzureEndorsements:
        """Good endorsements of both."""
        return AzureEndorsements(snp=self.amd.endorsements(), tdx=self.intel.collateral(), ak=ak)

    def verify(self, data: bytes, collateral: Any = None, **other: Any) -> Claims:
        """Verify, by default with everything good."""
        given = {"anchors": self.anchors, "now": self.now, **other}
        return verify(data, collateral=collateral or self.endorsements(), **given).value
