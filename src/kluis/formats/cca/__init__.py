"""Arm CCA structures, as the realm management monitor and the platform's firmware write them."""
