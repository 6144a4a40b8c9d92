"""A cache of documents on disk, and a provider that fetches only what the cache does not have.

An entry is written completely or not at all, mode 0600. An entry that is unreadable, or does not match its
name, counts as absent. Cached documents are still verified at every use: a cache proves nothing.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from kluis.collateral import folder
from kluis.collateral.documents import Document, Key, Kind, Times, check_key, times
from kluis.collateral.marks import MARKED, Marks, authority, is_older, refuse_older
from kluis.collateral.provider import Provider
from kluis.errors import FormatError, UnavailableError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen
from kluis.hashes import sha256

MAX_ENTRY: Final = 2 << 20
FRESH: Final = timedelta(hours=24)
_UNCHANGING: Final = frozenset({Kind.VCEK})


@frozen(kw_only=True)
class Entry:
    """A cached document.

    Attributes:
        document: as fetched.
        fetched: time; aware.
        times: stated in the document.
    """

    document: Document
    fetched: datetime
    times: Times


class Cache:
    """A folder of cached documents, created at the first write, mode 0700.

    Attributes:
        marks: the newest of each document ever stored here; they outlive the documents.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path
        self.marks = Marks(path)

    def path(self, kind: Kind, key: Key) -> Path:
        """The path of a document.

        Raises:
            UsageError: a word of ``key`` is not a word.
        """
        check_key(kind, key)
        return self._folder / ("_".join((kind, *key)) + ".json")

    def read(self, kind: Kind, key: Key) -> Entry | None:
        """Return the cached document; None if there is none, or it is incomplete.

        A document older than its mark, or whose mark is unreadable, counts as absent.
        """
        data = folder.read(self.path(kind, key), MAX_ENTRY)
        if data is None:
            return None
        with contextlib.suppress(FormatError, UnavailableError):
            entry = _decode(kind, key, data)
            seen = self.marks.read(kind, key, entry.document) if kind in MARKED else None
            if seen is None or not is_older(entry.times, seen):
                return entry
        return None

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Lock the folder, so that each process sees what the previous holder wrote.

        Raises:
            UnavailableError: the folder cannot be written.
        """
        return folder.alone(self._folder)

    def write(self, kind: Kind, key: Key, document: Document, now: datetime) -> None:
        """Store a document, replacing any other of its name.

        Raises:
            UnavailableError: the folder cannot be written.
        """
        folder.write(self.path(kind, key), _encode(kind, key, document, now))

    def forget(self, kind: Kind, key: Key) -> bool:
        """Delete a document; return whether there was one."""
        try:
            self.path(kind, key).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise UnavailableError(f"{self._folder}: cannot be written: {error.strerror}") from None
        return True


class Cached:
    """A caching provider: stores the answers of another provider, and queries it only if it must.

    A document comes from the cache if it is still valid and was fetched less than ``fresh`` ago; a VCEK if it
    is still valid. If a service returns an older document than one stored here before, deleted since or not,
    it is refused as a replay.

    Args:
        cache: the folder.
        behind: the provider to query; None to use only the cache, whatever an entry's age.
        fresh: the age at which a cached document is fetched again.
    """

    def __init__(self, cache: Cache, behind: Provider | None, *, fresh: timedelta = FRESH) -> None:
        self._cache, self._behind, self._fresh = cache, behind, fresh
        self._asked: dict[tuple[Kind, Key], Document] = {}

    def get(self, kind: Kind, key: Key, now: datetime) -> Document:
        """Return the cached document, or fetch it.

        Raises:
            UnavailableError: it is not cached, and there is no provider or the provider does not have it; or
                the marks are unreadable.
            FreshnessError: the answer is older than a document seen before (``collateral_replayed``).
            FormatError: the answer is not such a document.
        """
        cached = self._cache.read(kind, key)
        if cached is not None and (self._behind is None or self._still_good(kind, cached, now)):
            return cached.document
        what = " ".join((kind, *key))
        if self._behind is None:
            raise UnavailableError(
                f"{what}: is not cached, and no connection is allowed",
                hint="fetch it once without --offline",
                code="collateral_missing",
            )
        document = self._behind.get(kind, key, now)
        self._refuse_older(kind, key, document, cached)
        self._asked[kind, key] = document
        return document

    def keep(self, now: datetime) -> None:
        """Store what was fetched since the last call: call it once the documents are verified.

        Raises:
            UnavailableError: the folder cannot be written, or the marks are unreadable.
            FreshnessError: a newer document was seen here since the fetch (``collateral_replayed``).
        """
        if not self._asked:
            return
        with self._cache.alone():
            for (kind, key), document in self._asked.items():
                self._refuse_older(kind, key, document, self._cache.read(kind, key))
                self._cache.marks.raise_to(kind, key, document)
                self._cache.write(kind, key, document, now)
        self._asked.clear()

    def forget(self, wanted: Iterable[tuple[Kind, Key]]) -> bool:
        """Drop documents of which one proved wrong; return whether fetching again can fix that."""
        fresh = [self._asked.pop(one, None) for one in wanted]
        return self._behind is not None and None in fresh and self._drop(wanted)

    def _drop(self, wanted: Iterable[tuple[Kind, Key]]) -> bool:
        dropped = [self._cache.forget(kind, key) for kind, key in wanted]
        return any(dropped)

    def _still_good(self, kind: Kind, kept: Entry, now: datetime) -> bool:
        fresh = kind in _UNCHANGING or timedelta(0) <= now - kept.fetched < self._fresh
        return fresh and kept.times.issued <= now <= kept.times.until

    def _refuse_older(self, kind: Kind, key: Key, got: Document, kept: Entry | None) -> None:
        what, when, path = " ".join((kind, *key)), times(kind, got), self._cache.path(kind, key)
        if kind not in MARKED:
            if kept is not None:
                refuse_older(what, kept.times, when, (path,))
            return
        # From another authority than the cached one: two authorities share the folder, and neither replays
        # the other's documents.
        same = kept is not None and authority(kind, kept.document) == authority(kind, got)
        mark = self._cache.marks.read(kind, key, got)
        files = (*((path,) if same else ()), self._cache.marks.path(kind, key, got))
        for seen in (mark, kept.times if kept is not None and same else None):
            if seen is not None:
                refuse_older(what, seen, when, files)


def _encode(kind: Kind, key: Key, document: Document, now: datetime) -> bytes:
    return jcs.dumps(
        {
            "version": 1,
            "kind": kind.value,
            "key": list(key),
            "fetched": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "body": base64.b64encode(document.body).decode(),
            "chain": base64.b64encode(document.chain).decode(),
            "sha256": sha256(document.body + document.chain).hex(),
        }
    )


def _decode(kind: Kind, key: Key, data: bytes) -> Entry:
    entry = Members(jcs.loads(data, "kept document", max_size=MAX_ENTRY), "kept document")
    entry.version(1)
    if entry.text("kind") != kind or entry.texts("key", most=8) != key:
        raise FormatError("cached document: does not match its name", code="bad_type")
    body, chain = (_bytes(entry.text(name, limit=MAX_ENTRY)) for name in ("body", "chain"))
    if sha256(body + chain) != entry.hex("sha256", 32):
        raise FormatError("kept document: is not what was written", code="bad_encoding")
    document = Document(body=body, chain=chain)
    return Entry(document=document, fetched=entry.time("fetched"), times=times(kind, document))


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise FormatError("kept document: is not base64", code="bad_encoding") from None
