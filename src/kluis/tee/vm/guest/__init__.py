"""The guest of confidential virtual machines: build it, and measure it before it boots."""

from kluis.tee.vm.guest.build import build
from kluis.tee.vm.guest.guest import Guest

__all__ = ["Guest", "build"]
