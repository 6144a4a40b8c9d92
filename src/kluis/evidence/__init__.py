"""Is it authentic? Evidence in, proven claims out.

Nothing here reads a file, a clock or a network: anchors, collateral and time are arguments, and
none has a default.
"""

from kluis.evidence.anchors import Anchor, TrustAnchors
from kluis.evidence.intel.collateral import HeldCollateral
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import Claims, Platform, Tcb, TcbStatus
from kluis.evidence.registry import verify
from kluis.evidence.verified import Verified
from kluis.formats.sgx.collateral import Collateral

__all__ = [
    "Anchor",
    "Claims",
    "Collateral",
    "HeldCollateral",
    "Platform",
    "ProtectionLevel",
    "Tcb",
    "TcbStatus",
    "TrustAnchors",
    "Verified",
    "verify",
]
