"""The table that a policy has for each TEE: one module a TEE, one line each here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kluis.appraisal.fields import Field
from kluis.appraisal.tees import cca, nitro, nvidia, sgx, snp, tdx, tpm
from kluis.evidence.model import Tee

TABLES: Final[Mapping[Tee, tuple[Field, ...]]] = MappingProxyType(
    {
        Tee.SGX: sgx.FIELDS,
        Tee.TDX: tdx.FIELDS,
        Tee.SNP: snp.FIELDS,
        Tee.NITRO: nitro.FIELDS,
        Tee.TPM: tpm.FIELDS,
        Tee.NVIDIA: nvidia.FIELDS,
        Tee.CCA: cca.FIELDS,
    }
)
