"""The policy table of AWS Nitro documents: of enclaves, and of instances with a NitroTPM.

Spec: AWS "Nitro Enclaves: Cryptographic attestation", "PCR" table; "Attestation Document Specification".
"""

from __future__ import annotations

from typing import Final

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.fields import Field, of
from kluis.appraisal.policy.tees import shared
from kluis.appraisal.policy.wants import AtMost, Form, Named, Required
from kluis.evidence.model import Claims
from kluis.evidence.nitro.document import PRODUCTS, NitroClaims


def _age(claims: Claims) -> int | None:
    vendor = claims.vendor
    if not isinstance(vendor, NitroClaims):
        return None
    # The module's clock may be minutes ahead: a document from the future counts as age zero.
    return max(0, int((claims.verified_at - vendor.timestamp).total_seconds()))


FIELDS: Final = (
    shared.products("whose document: an enclave's, or an instance's", *PRODUCTS.values()),
    shared.measurements("PCR0 of an enclave's image file; PCR4 of an instance's boot loader", 48),
    shared.signers("PCR8: the certificate that signed the image file", 48),
    shared.registers(
        "PCR1 is kernel and boot, PCR2 the application, PCR3 the role, PCR4 the instance",
        r"pcr(?:[0-9]|[12][0-9]|3[01])",
        drafted=r"pcr[0128]",
    ),
    Field(
        key="max_document_age_seconds",
        form=Form(AtMost, most=3_153_600_000, age_seconds=300),
        claim=_age,
        about="by the module's clock; anyone who steals its key can backdate it",
        rule="document_age",
        aspect=Aspect.INSTANCE_IDENTITY,
        fix="ask for a new document",
    ),
    Field(
        key="public_key_required",
        form=Form(Required),
        claim=of(NitroClaims, lambda c: c.public_key is not None),
        about="whether it must hold a public key, to encrypt an answer to",
        rule="public_key",
        aspect=Aspect.CONFIGURATION,
        fix="request a document with a public key",
    ),
    Field(
        key="modules",
        form=Form(Named),
        claim=of(NitroClaims, lambda c: c.module_id),
        about="module ids: single instances",
        rule="module_id",
        aspect=Aspect.INSTANCE_IDENTITY,
        fix="ask an instance that the policy names",
        drafted=False,
    ),
)
