"""AWS Nitro's evidence: attestation documents of enclaves and of NitroTPMs."""
