"""A TPM 2.0: its commands, quotes, a sealed secret, and a witness of counters."""
