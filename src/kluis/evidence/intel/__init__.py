"""Intel's evidence: DCAP quotes, their certificates and collateral."""
