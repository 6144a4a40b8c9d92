"""Fetch, cache, bundle and describe vendors' collateral: the only client of the vendors' services.

Fetched documents are not trusted: ``kluis.evidence`` verifies them like any other input.
``kluis.collateral.intel`` and ``kluis.collateral.amd`` call the services, and need the extra ``collateral``;
the other modules do not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kluis.collateral.cache import Cache, Cached, Entry
from kluis.collateral.documents import Document, Key, Kind, Times, release, times
from kluis.collateral.fetch import fetch_for
from kluis.collateral.provider import Offline, Provider, Vendors

if TYPE_CHECKING:
    from kluis.collateral.amd import Kds
    from kluis.collateral.intel import Pcs

__all__ = [
    "Cache",
    "Cached",
    "Document",
    "Entry",
    "Kds",
    "Key",
    "Kind",
    "Offline",
    "Pcs",
    "Provider",
    "Times",
    "Vendors",
    "fetch_for",
    "release",
    "times",
]


_LATE = {"Kds": "kluis.collateral.amd", "Pcs": "kluis.collateral.intel"}


def __getattr__(name: str) -> Any:
    """Load a client, and HTTP with it, on first use."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATE[name]), name)
