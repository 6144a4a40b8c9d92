"""Claims that Kluis adds to every token: the origin of the keys, and the vendor's judgement of the
platform.
"""

from __future__ import annotations

from typing import Any, Final

from kluis.evidence import Claims, TcbStatus
from kluis.evidence.anchors import EMULATED

PROTECTION: Final = "x-kluis-protection"
EMULATED_CLAIM: Final = "x-kluis-emulated"
TCB_STATUS: Final = "x-kluis-tcb-status"
TCB_ADVISORIES: Final = "x-kluis-tcb-advisories"


def platform_claims(claims: Claims) -> dict[str, Any]:
    """The claims about the platform, for hardware and for emulated platforms.

    ``x-kluis-emulated`` is present, and true, only if no hardware is behind the evidence.
    """
    members: dict[str, Any] = {PROTECTION: str(claims.level)}
    if claims.anchor.startswith(EMULATED):
        members[EMULATED_CLAIM] = True
    if claims.tcb.status is not TcbStatus.NOT_JUDGED:
        members[TCB_STATUS] = str(claims.tcb.status)
        if claims.tcb.advisories:
            members[TCB_ADVISORIES] = list(claims.tcb.advisories)
    return members
