"""Evidence of an enclave in a machine: the machine's TEE endorses the root of the platform inside."""
