"""The policy table of SGX enclaves.

Spec: Intel SDM vol. 3D, "SIGSTRUCT", "REPORT"; Intel SGX PCK Certificate and CRL Profile.
"""

from __future__ import annotations

from typing import Final

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.fields import Field, of
from kluis.appraisal.policy.structured import Masked
from kluis.appraisal.policy.tees import intel, shared
from kluis.appraisal.policy.wants import Exactly, Form
from kluis.evidence.intel.sgx import SgxClaims

FIELDS: Final = (
    shared.measurements("MRENCLAVE", 32),
    shared.signers("MRSIGNER", 32),
    Field(
        key="product_id",
        form=Form(Exactly, most=0xFFFF),
        claim=lambda claims: claims.product_id,
        about="ISVPRODID, the signer's own number for it",
        rule="product_id",
        aspect=Aspect.EXECUTABLES,
        fix="this is another product of the same signer",
    ),
    shared.min_svn("ISVSVN", 0xFFFF),
    shared.config_ids("CONFIGID, where key separation and sharing is on", 64),
    shared.family_ids("ISVFAMILYID, likewise", 16),
    Field(
        key="attributes",
        form=Form(Masked, width=128, mask=0x36),
        claim=of(SgxClaims, lambda claims: claims.attributes),
        about="flags, and above their 64 bits XFRM; debug is judged in [accept]",
        rule="attributes",
        aspect=Aspect.CONFIGURATION,
        fix="sign and start the enclave with the attributes that the policy names",
    ),
    *intel.FIELDS,
)
