"""Check event logs against proven registers: pure functions, for every TEE."""
