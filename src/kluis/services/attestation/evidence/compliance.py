"""Which code is called compliant, by the lists that the service was given.

What makes Azure's own service say ``azure-compliant-cvm`` is not published. Here it is a match with a list
of the operator's, of measurements, keys, or those whose signed word of a measurement counts, on hardware, of
evidence that is bound to runtime data; else the claim is absent.
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
        endorsed: whether one of the operator's endorsers speaks for the guest's launch, as a utility VM.
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
