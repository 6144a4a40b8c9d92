"""The key service, inside an enclave: Azure Key Vault's key operations, and Secure Key Release."""
