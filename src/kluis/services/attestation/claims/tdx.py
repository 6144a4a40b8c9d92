"""Claims of TDX trust domains.

Spec: Microsoft Azure Attestation, "Claim sets", "TDX incoming claims"; EAT profile maa-eat-profile-tdxvm.
"""

from __future__ import annotations

from typing import Any, Final, cast

from kluis.evidence import Claims, TdxClaims
from kluis.services.attestation.claims.platform import platform_claims

PROFILE: Final = "https://aka.ms/maa-eat-profile-tdxvm"


def tdx_claims(claims: Claims) -> dict[str, Any]:
    """The claims of one trust domain."""
    vendor = cast("TdxClaims", claims.vendor)
    registers = {f"tdx_{name}": value.value.hex() for name, value in claims.registers.items()}
    return {
        "x-ms-attestation-type": "tdxvm",
        "attester_tcb_status": str(claims.tcb.status),
        "dbgstat": "enabled" if claims.debug else "disabled",
        "eat_profile": PROFILE,
        "intuse": "generic",
        "tdx_mrconfigid": vendor.mrconfigid.hex(),
        "tdx_mrowner": vendor.mrowner.hex(),
        "tdx_mrownerconfig": vendor.mrownerconfig.hex(),
        "tdx_mrseam": vendor.mrseam.hex(),
        "tdx_mrsignerseam": vendor.mrsignerseam.hex(),
        "tdx_mrtd": claims.measurement.value.hex(),
        "tdx_report_data": claims.report_data.hex(),
        **registers,
        "tdx_seam_attributes": _little(vendor.seam_attributes),
        # The first of the module's SVNs is its minor SVN.
        "tdx_seamsvn": vendor.tee_tcb_svn[0],
        "tdx_td_attributes": _little(vendor.td_attributes),
        "tdx_td_attributes_debug": claims.debug,
        "tdx_td_attributes_key_locker": vendor.kl,
        "tdx_td_attributes_perfmon": vendor.perfmon,
        "tdx_td_attributes_protection_keys": vendor.pks,
        "tdx_td_attributes_septve_disable": vendor.sept_ve_disable,
        "tdx_tee_tcb_svn": vendor.tee_tcb_svn.hex(),
        "tdx_xfam": _little(vendor.xfam),
        **platform_claims(claims),
    }


def _little(bits: int) -> str:
    """64 bits in the byte order of the report, in hex."""
    return bits.to_bytes(8, "little").hex()
