"""Providers of documents: one method, backed by the vendors' services or a plain mapping."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from kluis.collateral.documents import Document, Key, Kind, check_key
from kluis.errors import UnavailableError

_INTEL = frozenset({Kind.TCB_INFO, Kind.QE_IDENTITY, Kind.EVALUATION_NUMBERS, Kind.PCK_CRL, Kind.ROOT_CA_CRL})


class Provider(Protocol):
    """Provides the vendors' documents, or raises."""

    def get(self, kind: Kind, key: Key, now: datetime) -> Document:
        """Return one document.

        Args:
            kind: of the document.
            key: the words of its key.
            now: aware.

        Raises:
            UnavailableError: it is unavailable.
            FormatError: the response is not such a document.
            UsageError: the key's words are invalid.
        """
        ...


class Offline:
    """Provides only the documents it was given."""

    def __init__(self, documents: Mapping[tuple[Kind, Key], Document]) -> None:
        self._documents = dict(documents)

    def get(self, kind: Kind, key: Key, now: datetime) -> Document:
        """Return the given document, whatever ``now`` is.

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


class Vendors:
    """Queries the vendor of each kind of document."""

    def __init__(self, *, intel: Provider, amd: Provider) -> None:
        self._intel, self._amd = intel, amd

    def get(self, kind: Kind, key: Key, now: datetime) -> Document:
        """Query Intel or AMD."""
        return (self._intel if kind in _INTEL else self._amd).get(kind, key, now)
