"""The guest of confidential virtual machines: build it, and measure it before it boots."""

from kluis.tee.vm.guest.building import build
from kluis.tee.vm.guest.guest import Guest
from kluis.tee.vm.guest.measuring import Measured, measure

__all__ = ["Guest", "Measured", "build", "measure"]
