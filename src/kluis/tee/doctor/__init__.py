"""Examine this machine: what it offers enclaves, what root can access, and how to change it."""

from kluis.tee.doctor.examine import examine
from kluis.tee.doctor.finding import Finding, Part, State

__all__ = ["Finding", "Part", "State", "examine"]
