"""The attestation service: what it answers, and the policies that it evaluates."""
