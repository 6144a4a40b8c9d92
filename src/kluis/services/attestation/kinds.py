"""Kinds of attestation, as the service's paths name them."""

from __future__ import annotations

import enum
from typing import Final, Self

from kluis.services.attestation.faults import InvalidParameter


class AttestationType(enum.StrEnum):
    """Whose evidence a policy is about."""

    SGX_ENCLAVE = "SgxEnclave"
    OPEN_ENCLAVE = "OpenEnclave"
    SEV_SNP_VM = "SevSnpVm"
    TDX_VM = "TdxVm"
    AZURE_GUEST = "AzureGuest"
    TPM = "Tpm"

    @classmethod
    def of(cls, text: str) -> Self:
        """The kind of this name, in any case of letters.

        Raises:
            InvalidParameter: there is none.
        """
        kind = _BY_NAME.get(text.lower())
        if kind is None:
            raise InvalidParameter(f"attestation type: want one of {', '.join(cls)}, got {text[:64]!a}")
        return cls(kind)


_BY_NAME: Final = {kind.value.lower(): kind for kind in AttestationType}


class TrustModel(enum.StrEnum):
    """Who may change an instance's policies."""

    AAD = "AAD"
    """Whoever has the role."""
    ISOLATED = "Isolated"
    """Whoever has the role, with a signature of a policy management certificate."""
