"""The policy table of Azure confidential VMs, in addition to the table of their hardware.

The hardware measures the paravisor, which is trusted with everything. Put its measurement into the hardware's
own table, and the operating system's PCRs into this one.

Spec: OpenHCL, "Attestation report", "Runtime claims".
"""

from __future__ import annotations

from typing import Final

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.fields import Field, of
from kluis.appraisal.policy.structured import Registers
from kluis.appraisal.policy.values import Value
from kluis.appraisal.policy.wants import Allowed, Form, Named, Required
from kluis.evidence.azure.claims import AzureClaims
from kluis.evidence.model import Claims, Tee
from kluis.evidence.tpm.claims import TpmClaims


def _flag(claims: AzureClaims, name: str) -> Value:
    value = claims.configuration.get(name)
    return value if isinstance(value, bool) else None


def _has_firmware_log(claims: AzureClaims) -> Value:
    vendor = claims.tpm.vendor if claims.tpm else None
    return isinstance(vendor, TpmClaims) and vendor.log is not None and vendor.log.tells_of_firmware


def _pcrs(claims: Claims) -> Value:
    vendor = claims.vendor
    return vendor.tpm.registers if isinstance(vendor, AzureClaims) and vendor.tpm else None


FIELDS: Final = (
    Field(
        key="hardware",
        form=Form(Named, known=(Tee.SNP.value, Tee.TDX.value)),
        claim=of(AzureClaims, lambda c: c.hardware.tee.value),
        about="whose table below judges the hardware",
        rule="hardware",
        aspect=Aspect.HARDWARE,
        fix="run it on hardware that the policy names",
    ),
    Field(
        key="vtpm_required",
        form=Form(Required),
        claim=of(AzureClaims, lambda c: c.tpm is not None),
        about="whether a quote of the vTPM must be there: without it nothing is fresh",
        rule="vtpm",
        aspect=Aspect.EXECUTABLES,
        fix="pass the vTPM's quote, its signature and the PCRs: --part",
    ),
    Field(
        key="registers",
        form=Form(Registers, pattern=r"pcr(?:[0-9]|1[0-9]|2[0-3])", referenced=True),
        claim=_pcrs,
        about="PCRs of the vTPM: which operating system runs",
        rule="pcrs",
        aspect=Aspect.EXECUTABLES,
        fix="compare the event log with the one that the expected values came from",
    ),
    Field(
        key="event_log_required",
        form=Form(Required),
        claim=of(AzureClaims, _has_firmware_log),
        about="whether a log must explain the PCRs, of which one at least is firmware's (0 to 7)",
        rule="event_log",
        aspect=Aspect.EXECUTABLES,
        fix="quote firmware's PCRs, and give the event log that explains them: --event-log",
    ),
    Field(
        key="secure_boot",
        form=Form(Required),
        claim=of(AzureClaims, lambda c: _flag(c, "secure-boot")),
        about="whether the VM must be configured with secure boot, as the hardware measured",
        rule="secure_boot",
        aspect=Aspect.CONFIGURATION,
        fix="create the VM with secure boot",
    ),
    Field(
        key="console",
        form=Form(Allowed),
        claim=of(AzureClaims, lambda c: _flag(c, "console-enabled")),
        about="a serial console for the VM's administrator",
        rule="console",
        aspect=Aspect.CONFIGURATION,
        fix="create the VM without a console",
    ),
    Field(
        key="certified_key",
        form=Form(Required),
        claim=of(AzureClaims, lambda c: c.key_certified),
        about="whether the vTPM's key also needs a certificate from Azure",
        rule="ak_certified",
        aspect=Aspect.HARDWARE,
        fix="give the certificate of the vTPM's key: --collateral",
    ),
    Field(
        key="vms",
        form=Form(Named),
        claim=of(AzureClaims, lambda c: c.vm_id),
        about="unique ids of single VMs",
        rule="vm",
        aspect=Aspect.INSTANCE_IDENTITY,
        fix="ask a VM that the policy names",
        drafted=False,
    ),
)
