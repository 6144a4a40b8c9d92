"""Documents kept on disk, each in a file of its own, and a provider that asks only where it must.

An entry is written whole or not at all, mode 0600; one that cannot be read, or is not what its name
says, counts as absent. What is kept is still verified at every use: a cache proves nothing.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import stat
import tempfile
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from kluis.collateral.documents import Document, Key, Kind, Times, check_key, times
from kluis.collateral.provider import Provider
from kluis.errors import FormatError, FreshnessError, UnavailableError
from kluis.formats import jcs
from kluis.formats._members import Members
from kluis.hashes import sha256

MAX_ENTRY: Final = 2 << 20
FRESH: Final = timedelta(hours=24)
_UNCHANGING: Final = frozenset({Kind.VCEK})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A kept document.

    Attributes:
        document: as it came.
        fetched: when; aware.
        times: what the document says of itself.
    """

    document: Document
    fetched: datetime
    times: Times


class Cache:
    """A folder of kept documents, made at the first write, mode 0700."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, kind: Kind, key: Key) -> Path:
        """Where a document is kept.

        Raises:
            UsageError: a word of ``key`` is not a word.
        """
        check_key(kind, key)
        return self._folder / ("_".join((kind, *key)) + ".json")

    def read(self, kind: Kind, key: Key) -> Entry | None:
        """Give the kept document; None where there is none, or none that is whole."""
        path = self.path(kind, key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o022:
            os.close(descriptor)
            return None
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(MAX_ENTRY + 1)
        try:
            return _decode(kind, key, data)
        except FormatError:
            return None

    def write(self, kind: Kind, key: Key, document: Document, now: datetime) -> None:
        """Keep a document, in place of any other of its name.

        Raises:
            UnavailableError: the folder cannot be written.
        """
        path = self.path(kind, key)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=".")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(_encode(kind, key, document, now))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, path)
            except BaseException:
                os.unlink(name)
                raise
        except OSError as error:
            raise UnavailableError(
                f"{self._folder}: cannot be written: {error.strerror}",
                hint="name another folder with --cache",
            ) from None

    def forget(self, kind: Kind, key: Key) -> bool:
        """Drop a document; tells whether there was one."""
        try:
            self.path(kind, key).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise UnavailableError(f"{self._folder}: cannot be written: {error.strerror}") from None
        return True


class Cached:
    """A provider in front of another: keeps what that one gave, and asks it only where it must.

    A document is given from the cache while it is in its own time and was fetched less than
    ``fresh`` ago; a VCEK while it is in its time. A service that gives an older document than the
    kept one is refused: its answer is a replay.

    Args:
        cache: the folder.
        behind: the provider to ask; None to work from the cache alone, whatever an entry's age.
        fresh: how old a kept document may be before it is asked for again.
    """

    def __init__(self, cache: Cache, behind: Provider | None, *, fresh: timedelta = FRESH) -> None:
        self._cache, self._behind, self._fresh = cache, behind, fresh
        self._asked: dict[tuple[Kind, Key], Document] = {}

    def get(self, kind: Kind, key: Key, now: datetime) -> Document:
        """Give the kept document, or ask for it.

        Raises:
            UnavailableError: it is not kept, and there is nobody to ask, or who is asked has none.
            FreshnessError: what came is older than what is kept (``collateral_replayed``).
            FormatError: what came is not such a document.
        """
        kept = self._cache.read(kind, key)
        if kept is not None and (self._behind is None or self._still_good(kind, kept, now)):
            return kept.document
        what = " ".join((kind, *key))
        if self._behind is None:
            raise UnavailableError(
                f"{what}: is not kept, and nobody may be asked",
                hint="fetch it once without --offline",
                code="collateral_missing",
            )
        document = self._behind.get(kind, key, now)
        if kept is not None:
            self._refuse_older(what, kept.times, times(kind, document), self._cache.path(kind, key))
        self._asked[kind, key] = document
        return document

    def keep(self, now: datetime) -> None:
        """Keep what was asked for since the last time: call it once the documents are verified.

        Raises:
            UnavailableError: the folder cannot be written.
        """
        for (kind, key), document in self._asked.items():
            self._cache.write(kind, key, document, now)
        self._asked.clear()

    def forget(self, wanted: Iterable[tuple[Kind, Key]]) -> bool:
        """Drop documents one of which proved wrong; tells whether asking again can mend that."""
        fresh = [self._asked.pop(one, None) for one in wanted]
        return self._behind is not None and None in fresh and self._drop(wanted)

    def _drop(self, wanted: Iterable[tuple[Kind, Key]]) -> bool:
        dropped = [self._cache.forget(kind, key) for kind, key in wanted]
        return any(dropped)

    def _still_good(self, kind: Kind, kept: Entry, now: datetime) -> bool:
        fresh = kind in _UNCHANGING or timedelta(0) <= now - kept.fetched < self._fresh
        return fresh and kept.times.issued <= now <= kept.times.until

    @staticmethod
    def _refuse_older(what: str, kept: Times, got: Times, path: Path) -> None:
        if got.issued < kept.issued or (got.evaluation or 0) < (kept.evaluation or 0):
            raise FreshnessError(
                f"{what}: want one issued {_shown(kept)} or later, as is kept, got one issued {_shown(got)}",
                hint=f"the service replays an old document; if the kept one is wrong, remove {path}",
                code="collateral_replayed",
            )


def _shown(times: Times) -> str:
    number = f" with evaluation number {times.evaluation}" if times.evaluation is not None else ""
    return times.issued.isoformat().replace("+00:00", "Z") + number


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
        raise FormatError("kept document: is another than its name says", code="bad_type")
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
