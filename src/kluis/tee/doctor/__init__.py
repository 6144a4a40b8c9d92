"""What this machine gives an enclave, what it leaves open to root, and how to change it."""

from kluis.tee.doctor.examine import examine
from kluis.tee.doctor.finding import Finding, Part, State

__all__ = ["Finding", "Part", "State", "examine"]
