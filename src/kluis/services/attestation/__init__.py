"""The attestation service: verifies evidence, evaluates policies and issues tokens."""
