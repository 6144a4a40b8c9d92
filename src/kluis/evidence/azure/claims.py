"""What an Azure confidential VM says: its hardware's claims, its vTPM's, and the runtime data between."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from kluis.evidence.model import Claims, Tee, VendorClaims
from kluis.formats.hcl.report import HclReport, ReportType
from kluis.formats.hcl.runtime import RuntimeData, Setting

KIND = "Azure HCL report"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AzureClaims(VendorClaims):
    """What an Azure confidential VM says beside the claims that all TEEs share.

    The hardware measures the paravisor (OpenHCL, HCL), which is trusted with everything: it runs the
    vTPM, and only the vTPM's PCRs say which operating system runs. A guest could replace the vTPM's
    key under paravisors before the fix of CVE-2025-49707: accept measurements of fixed ones alone.

    Attributes:
        hardware: the claims of the SNP report, or of the TD quote.
        tpm: the claims of the vTPM's quote; None where none is given: then nothing is fresh, and
            nothing says which operating system runs.
        key: DER of the vTPM attestation key's SubjectPublicKeyInfo, HCLAkPub.
        key_certified: whether a certificate vouches for it as well.
        key_ids: of every key in the runtime data.
        vm_id: the VM's unique id.
        configuration: the VM's, by name: ``secure-boot``, ``tpm-enabled``, ``console-enabled``, ...
        user_data: 64 bytes that the guest wrote before the report was made; None on older hosts.
        header_version: of the HCL report, 1 or 2.
        request_version: of its request data, 1 or 2.
    """

    hardware: Claims
    tpm: Claims | None
    key: bytes
    key_certified: bool
    key_ids: tuple[str, ...]
    vm_id: str
    configuration: Mapping[str, Setting]
    user_data: bytes | None
    header_version: int
    request_version: int


def claims(
    report: HclReport,
    runtime: RuntimeData,
    hardware: Claims,
    tpm: Claims | None,
    until: datetime,
    *,
    certified: bool,
) -> Claims:
    """Put hardware, runtime data and vTPM together: the level is the hardware's.

    Args:
        report: the HCL report.
        runtime: its runtime data.
        hardware: what the hardware says.
        tpm: what the vTPM says.
        until: when the first endorsement runs out.
        certified: whether a certificate vouches for the vTPM's key.
    """
    product = "SNP" if report.report_type is ReportType.SNP else "TDX"
    return dataclasses.replace(
        hardware,
        kind=f"{KIND} v{report.header.version} ({product})",
        tee=Tee.AZURE,
        registers=MappingProxyType({**hardware.registers, **(tpm.registers if tpm else {})}),
        # The hardware's own report data are the runtime data's hash; these are the guest's, inside.
        report_data=runtime.user_data or b"",
        nonce=tpm.nonce if tpm else None,
        valid_until=until,
        vendor=AzureClaims(
            hardware=hardware,
            tpm=tpm,
            key=runtime.ak,
            key_certified=certified,
            key_ids=runtime.key_ids,
            vm_id=runtime.vm_id,
            configuration=runtime.configuration,
            user_data=runtime.user_data,
            header_version=report.header.version,
            request_version=report.request.version,
        ),
    )
