"""TPM 2.0 structures as fields: quotes, signatures, public areas, PCR values. Nothing here is verified."""
