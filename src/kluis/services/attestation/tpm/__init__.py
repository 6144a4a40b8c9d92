"""The TPM protocol: a challenge, then a request that its own key signs, with what a TPM quoted over both."""

from kluis.services.attestation.tpm.protocol import TpmProtocol

__all__ = ["TpmProtocol"]
