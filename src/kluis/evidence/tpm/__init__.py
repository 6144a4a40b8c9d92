"""TPM 2.0 evidence: quotes, the keys that sign them, and event logs."""
