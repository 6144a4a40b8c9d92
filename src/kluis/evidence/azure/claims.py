"""The claims of an Azure confidential VM: its hardware's, its vTPM's, and the runtime data between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from kluis.evidence.model import Claims, Tee, VendorClaims
from kluis.formats.hcl.report import HclReport, ReportType
from kluis.formats.hcl.runtime import RuntimeData, Setting
from kluis.frozen import frozen

KIND = "Azure HCL report"


@frozen(kw_only=True)
class AzureClaims(VendorClaims):
    """The vendor-specific claims of an Azure confidential VM.

    The hardware measures the paravisor (OpenHCL, HCL), which is trusted with everything. It runs the vTPM,
    and only the vTPM's PCRs identify the running operating system. Before the fix of CVE-2025-49707, a guest
    could replace the vTPM's key: accept only measurements of fixed paravisors.

    Attributes:
        hardware: the claims of the SNP report, or of the TD quote.
        tpm: the claims of the vTPM's quote; None without one: then nothing is fresh, and the operating system
            is unknown.
        key: DER of the vTPM attestation key's SubjectPublicKeyInfo, HCLAkPub.
        key_certified: whether a certificate also certifies the key.
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
    """Combine the claims of hardware, runtime data and vTPM; the level is the hardware's.

    Args:
        report: the HCL report.
        runtime: its runtime data.
        hardware: the claims of the hardware.
        tpm: the claims of the vTPM.
        until: when the first endorsement expires.
        certified: whether a certificate certifies the vTPM's key.
    """
    product = "SNP" if report.report_type is ReportType.SNP else "TDX"
    return dataclasses.replace(
        hardware,
        kind=f"{KIND} v{report.header.version} ({product})",
        tee=Tee.AZURE,
        registers=MappingProxyType({**hardware.registers, **(tpm.registers if tpm else {})}),
        # The hardware's report data are the hash of the runtime data; these are the guest's, inside the
        # runtime data.
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
