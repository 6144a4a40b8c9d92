"""Drivers of TEEs: what endorses the root of this machine's platform, chosen by detection or by name."""

from kluis.tee.driver import Driver
from kluis.tee.drivers.registry import NAMES, by_name, detect

__all__ = ["NAMES", "Driver", "by_name", "detect"]
