"""The only client of the makers' services: what they publish is fetched, kept, bundled and shown here.

Nothing fetched is believed: ``kluis.evidence`` verifies it like bytes from anybody. The services
are asked by ``kluis.collateral.intel`` and ``kluis.collateral.amd``, which need the extra
``collateral``; all else here needs nothing more.
"""

from kluis.collateral.cache import Cache, Cached, Entry
from kluis.collateral.documents import Document, Key, Kind, Times, release, times
from kluis.collateral.fetch import fetch_for
from kluis.collateral.provider import Makers, Offline, Provider

__all__ = [
    "Cache",
    "Cached",
    "Document",
    "Entry",
    "Key",
    "Kind",
    "Makers",
    "Offline",
    "Provider",
    "Times",
    "fetch_for",
    "release",
    "times",
]
