"""Claims of SGX enclaves, including Open Enclave's.

Spec: Microsoft Azure Attestation, "Claim sets", "SGX incoming claims specific to attestation policies".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from kluis.evidence import Claims, SgxClaims
from kluis.services.attestation.claims.platform import platform_claims
from kluis.services.attestation.evidence.bound_data import Bound

# The names of claims in policies of the first years.
LEGACY: Final[Mapping[str, str]] = {
    "$is-debuggable": "x-ms-sgx-is-debuggable",
    "$product-id": "x-ms-sgx-product-id",
    "$svn": "x-ms-sgx-svn",
    "$sgx-mrsigner": "x-ms-sgx-mrsigner",
    "$sgx-mrenclave": "x-ms-sgx-mrenclave",
    "$tee": "x-ms-attestation-type",
    "$maa-ehd": "x-ms-sgx-ehd",
    "$aas-ehd": "x-ms-sgx-ehd",
    "$maa-attestationcollateral": "x-ms-sgx-collateral",
}


def sgx_claims(claims: Claims, collateral: Mapping[str, str], runtime: Bound | None) -> dict[str, Any]:
    """The claims of one enclave.

    Args:
        claims: verified.
        collateral: seven hashes, of the quote and of its collateral.
        runtime: data that the quote is bound to.
    """
    vendor = cast("SgxClaims", claims.vendor)
    members: dict[str, Any] = {
        "x-ms-attestation-type": "sgx",
        "x-ms-sgx-is-debuggable": claims.debug,
        "x-ms-sgx-product-id": claims.product_id,
        "x-ms-sgx-svn": claims.svn,
        "x-ms-sgx-mrenclave": claims.measurement.value.hex(),
        "x-ms-sgx-mrsigner": claims.signer.value.hex() if claims.signer else "",
        "x-ms-sgx-report-data": claims.report_data.hex(),
        "x-ms-sgx-collateral": dict(collateral),
        "maa-attestationcollateral": dict(collateral),
    }
    if claims.config_id is not None:
        members["x-ms-sgx-config-id"] = claims.config_id.hex()
        members["x-ms-sgx-config-svn"] = vendor.configsvn
        members["x-ms-sgx-isv-extended-product-id"] = (vendor.extended_product_id or b"").hex()
        members["x-ms-sgx-isv-family-id"] = (claims.family_id or b"").hex()
    if runtime is not None and runtime.value is None:
        data = runtime.text
        members |= {"x-ms-sgx-ehd": data, "aas-ehd": data, "maa-ehd": data}
    return members | platform_claims(claims)


def legacy_claims(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The same claims under the names that begin with ``$``: only for policies, never in a token."""
    return {old: claims[new] for old, new in LEGACY.items() if new in claims}
