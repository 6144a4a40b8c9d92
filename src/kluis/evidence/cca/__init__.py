"""Arm CCA's evidence: tokens of realms and of the platforms under them."""
