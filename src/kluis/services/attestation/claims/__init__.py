"""From verified evidence to the claims that policies read and tokens carry, a module for each TEE.

What is evaluated and what is told are the same claims. A policy reads text, integers and booleans; what is
an object in the token is its JSON text in the policy.
"""

from kluis.services.attestation.claims.platform import platform_claims
from kluis.services.attestation.claims.sgx import sgx_claims
from kluis.services.attestation.claims.snp import snp_claims
from kluis.services.attestation.claims.tdx import tdx_claims

__all__ = ["platform_claims", "sgx_claims", "snp_claims", "tdx_claims"]
