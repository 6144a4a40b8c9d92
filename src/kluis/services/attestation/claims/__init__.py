"""Convert verified evidence into the claims of policies and tokens, one module for each TEE.

Policies evaluate the same claims that tokens contain. A policy reads text, integers and booleans; an object
in the token is its JSON text in the policy.
"""

from kluis.services.attestation.claims.platform import platform_claims
from kluis.services.attestation.claims.sgx import sgx_claims
from kluis.services.attestation.claims.snp import snp_claims
from kluis.services.attestation.claims.tdx import tdx_claims

__all__ = ["platform_claims", "sgx_claims", "snp_claims", "tdx_claims"]
