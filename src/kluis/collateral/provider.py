"""Where documents come from: one method, and the makers' services or a plain mapping behind it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from kluis.collateral.documents import Document, Key, Kind, check_key
from kluis.errors import UnavailableError

_INTEL = frozenset({Kind.TCB_INFO, Kind.QE_IDENTITY, Kind.EVALUATION_NUMBERS, Kind.PCK_CRL, Kind.ROOT_CA_CRL})


class Provider(Protocol):
    """Gives the makers' documents; never nothing in their place."""

    def get(self, kind: Kind, key: Key, now: datetime) -> Document:
        """Give one document.

        Args:
            kind: which.
            key: the words beside the kind.
            now: aware.

        Raises:
            UnavailableError: it cannot be had.
            FormatError: what was had is not such a document.
            UsageError: the key's words are not words.
        """
        ...


class Offline:
    """Documents that are at hand, and no others."""

    def __init__(self, documents: Mapping[tuple[Kind, Key], Document]) -> None:
        self._documents = dict(documents)

    def get(self, kind: Kind, key: Key, now: datetime) -> Document:
        """Give the document at hand, whatever ``now`` is.

        Raises:
            UnavailableError: there is none.
        """
        check_key(kind, key)
        try:
            return self._documents[kind, key]
        except KeyError:
            raise UnavailableError(
                f"{' '.join((kind, *key))}: is not available", hint="fetch it", code="collateral_missing"
            ) from None


class Makers:
    """Asks the maker whose kind of document it is."""

    def __init__(self, *, intel: Provider, amd: Provider) -> None:
        self._intel, self._amd = intel, amd

    def get(self, kind: Kind, key: Key, now: datetime) -> Document:
        """Ask Intel or AMD."""
        return (self._intel if kind in _INTEL else self._amd).get(kind, key, now)
