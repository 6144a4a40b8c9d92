"""An emulated AMD secure processor, with the certificates of its vendor.

It signs SNP reports byte for byte as SEV-SNP firmware does, under an emulated root of level ``vm``. A relying
party trusts that root only by naming its file.
"""

from kluis.authority.amd.processor import Processor
from kluis.authority.amd.reports import Launch
from kluis.authority.amd.state import Keys, State

__all__ = ["Keys", "Launch", "Processor", "State"]
