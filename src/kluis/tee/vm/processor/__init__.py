"""The emulated processor of this computer's machines: its keys in files, and its answers to guests."""

from kluis.tee.vm.processor.answering import answer
from kluis.tee.vm.processor.kept import alone, load_or_create

__all__ = ["alone", "answer", "load_or_create"]
