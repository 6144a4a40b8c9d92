"""What an event log is worth against registers that are proven: pure functions, for every TEE."""
