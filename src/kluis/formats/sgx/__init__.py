"""Intel SGX structures, as the processor and the quoting enclave write them."""
