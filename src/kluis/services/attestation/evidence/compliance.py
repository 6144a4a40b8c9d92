"""Determine which code is reported as compliant, from the service's configured lists.

Azure does not publish when its own service states ``azure-compliant-cvm``. Here the evidence must come from
hardware and be bound to runtime data. It must also match one of the operator's lists: of measurements, of
keys, or of endorsers that sign measurements. Otherwise the claim is absent.
"""

from __future__ import annotations

from typing import Final

from kluis.evidence import Claims, SnpClaims
from kluis.services.attestation.evidence.bound_data import Bound
from kluis.services.attestation.settings import Compliance

CVM: Final = "azure-compliant-cvm"
UVM: Final = "azure-compliant-uvm"


def compliance_status(
    claims: Claims, runtime: Bound | None, lists: Compliance, *, endorsed: bool = False
) -> str | None:
    """The value of ``x-ms-compliance-status``, or None.

    Args:
        claims: of an SNP guest or a trust domain, verified.
        runtime: data that it is bound to.
        lists: the operator's.
        endorsed: whether one of the operator's endorsers signed the guest's launch measurement, as a utility
            VM.
    """
    if runtime is None or runtime.value is None or not claims.level.hardware:
        return None
    measured = claims.measurement.value
    if endorsed or measured in lists.uvm_measurements:
        return UVM
    if measured in lists.cvm_measurements:
        return CVM
    vendor = claims.vendor
    if isinstance(vendor, SnpClaims) and vendor.id_key_digest is not None:
        return CVM if vendor.id_key_digest.value in lists.cvm_id_keys else None
    return None
