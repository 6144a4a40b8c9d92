"""The attester: measures and isolates enclaves, and signs evidence of them."""
