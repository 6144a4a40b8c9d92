"""Clean rooms: data owners who do not trust each other compute on joined data, and get only results that all
agreed to.

An agreement names the parties, the data, the code and the analyses (``agreement``, ``signing``). Data is
sealed on its owner's machine (``data``) and opened only inside an enclave that the owner's own client has
verified (``running``), which runs only the signed analyses (``query``, ``analyses``), seals each result to
its recipients and signs a receipt that is checked offline (``receipts``). ``records`` has the folders of
parties and rooms.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kluis.cleanroom.running.runner import room

__all__ = ["room"]


_LATE = {"room": "kluis.cleanroom.running.runner"}


def __getattr__(name: str) -> Any:
    """Load what runs inside on first use: an owner's client does without it."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATE[name]), name)
