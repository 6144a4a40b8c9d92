"""The TPM protocol: a challenge, then a request signed by its own key, with a TPM's quote over both."""

from kluis.services.attestation.tpm.protocol import TpmProtocol

__all__ = ["TpmProtocol"]
