"""Fetch, cache, bundle and describe vendors' collateral: the only client of the vendors' services.

Fetched documents are not trusted: ``kluis.evidence`` verifies them like any other input.
``kluis.collateral.intel`` and ``kluis.collateral.amd`` call the services, and need the extra ``collateral``;
the other modules do not.
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
