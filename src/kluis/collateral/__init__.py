"""The only client of the makers' services: what they publish is fetched, kept, bundled and shown here.

Nothing fetched is believed: ``kluis.evidence`` verifies it like bytes from anybody. The services
are asked by ``kluis.collateral.intel`` and ``kluis.collateral.amd``, which need the extra
``collateral``; all else here needs nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kluis.collateral.cache import Cache, Cached, Entry
from kluis.collateral.documents import Document, Key, Kind, Times, release, times
from kluis.collateral.fetch import fetch_for
from kluis.collateral.provider import Makers, Offline, Provider

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
    "Makers",
    "Offline",
    "Pcs",
    "Provider",
    "Times",
    "fetch_for",
    "release",
    "times",
]


def __getattr__(name: str) -> Any:
    """Load a client, and HTTP with it, when it is first named."""
    if name == "Kds":
        from kluis.collateral.amd import Kds

        return Kds
    if name == "Pcs":
        from kluis.collateral.intel import Pcs

        return Pcs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
