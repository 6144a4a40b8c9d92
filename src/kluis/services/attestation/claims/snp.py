"""Claims of SEV-SNP guests.

Spec: Microsoft Azure Attestation, "Claim sets", "SEV-SNP incoming claims". It does not specify which of a
report's four TCB versions is the claim. Here it is the reported one, from which its key is derived.
"""

from __future__ import annotations

from typing import Any, Final, cast

from kluis.evidence import Claims, SnpClaims
from kluis.hashes import Digest
from kluis.services.attestation.claims.platform import platform_claims

_P: Final = "x-ms-sevsnpvm-"


def snp_claims(claims: Claims) -> dict[str, Any]:
    """The claims of one guest; a digest that the report does not have is zeros, as in the report."""
    vendor = cast("SnpClaims", claims.vendor)
    tcb, policy = vendor.reported_tcb, vendor.policy
    members: dict[str, Any] = {
        "x-ms-attestation-type": "sevsnpvm",
        _P + "authorkeydigest": _hex(vendor.author_key_digest),
        _P + "bootloader-svn": tcb.boot_loader,
        _P + "familyId": (claims.family_id or bytes(16)).hex(),
        _P + "guestsvn": claims.svn,
        _P + "hostdata": vendor.host_data.hex(),
        _P + "idkeydigest": _hex(vendor.id_key_digest),
        _P + "imageId": vendor.image_id.hex(),
        _P + "is-debuggable": policy.debug,
        _P + "launchmeasurement": claims.measurement.value.hex(),
        _P + "microcode-svn": tcb.microcode,
        _P + "migration-allowed": policy.migrate_ma,
        _P + "reportdata": claims.report_data.hex(),
        _P + "reportid": vendor.report_id.hex(),
        _P + "smt-allowed": policy.smt,
        _P + "snpfw-svn": tcb.snp,
        _P + "tee-svn": tcb.tee,
        _P + "vmpl": vendor.vmpl,
    }
    if tcb.fmc is not None:
        members["x-kluis-sevsnpvm-fmc-svn"] = tcb.fmc
    return members | platform_claims(claims)


def _hex(digest: Digest | None) -> str:
    return digest.value.hex() if digest else bytes(48).hex()
