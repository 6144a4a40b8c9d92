"""Kinds of attestation, as named in the service's paths."""

from __future__ import annotations

import enum
from typing import Final, Self

from kluis.services.attestation.faults import InvalidParameter


class AttestationType(enum.StrEnum):
    """The kind of evidence that a policy is about."""

    SGX_ENCLAVE = "SgxEnclave"
    OPEN_ENCLAVE = "OpenEnclave"
    SEV_SNP_VM = "SevSnpVm"
    TDX_VM = "TdxVm"
    AZURE_GUEST = "AzureGuest"
    TPM = "Tpm"

    @classmethod
    def of(cls, text: str) -> Self:
        """The kind with this name, in any case.

        Raises:
            InvalidParameter: no kind has this name.
        """
        kind = _BY_NAME.get(text.lower())
        if kind is None:
            raise InvalidParameter(f"attestation type: want one of {', '.join(cls)}, got {text[:64]!a}")
        return cls(kind)


_BY_NAME: Final = {kind.value.lower(): kind for kind in AttestationType}


class TrustModel(enum.StrEnum):
    """Who may change an instance's policies."""

    AAD = "AAD"
    """Every caller with the role."""
    ISOLATED = "Isolated"
    """Every caller with the role, if a policy management certificate signed the request."""
