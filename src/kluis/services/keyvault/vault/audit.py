"""The record of what happened to keys: each entry holds the hash of the one before.

An entry is kept in the same change as what it tells of. Whoever holds the head's hash can tell, later, that
nothing before it was changed or left out: the hash of an entry is

    SHA-256 of its members but ``hash``, in canonical JSON (RFC 8785)
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from kluis.enclave.store.model import Reading, Storage, Writing
from kluis.errors import InternalError, KluisError
from kluis.hashes import sha256
from kluis.services.keyvault.vault.records import decode, encode

TABLE, HEAD = "audit", "audit-head"
START: Final = "0" * 64
_DIGITS: Final = 16


class Event(NamedTuple):
    """What happened.

    Attributes:
        operation: ``create``, ``import``, ``update``, ``rotate``, ``policy``, ``rotation-policy``,
            ``delete``, ``recover``, ``purge``, ``backup``, ``restore``, ``release``; of the vault's own
            accord ``auto-rotate``, ``near-expiry`` and ``auto-purge``; of the vault itself ``trust-approve``,
            ``trust-withdraw`` and ``trust-adopt``.
        key: the key's name.
        version: of it.
        subject: who asked, as the issuer of their token calls them; nobody, where the vault did it by itself.
        time: seconds since 1970, by the host's clock.
        authority: who vouched for the environment; of a release.
        target: SHA-256, hex: of a release's attestation token; of the set of authorities and issuer.
        recipient: SHA-256 of the DER of the environment's key, hex; of a release.
    """

    operation: str
    key: str
    version: str
    subject: str
    time: int
    authority: str = ""
    target: str = ""
    recipient: str = ""


class Entry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An event in its place.

    Attributes:
        sequence: from 1, without a gap.
        previous: the hash of the entry before, hex; zeros of the first.
        hash: its own, hex.
    """

    sequence: int
    operation: str
    key: str
    version: str
    subject: str
    time: int
    authority: str
    target: str
    recipient: str
    previous: str
    hash: str

    def compute_hash(self) -> str:
        """The hash that the other members make."""
        members: dict[str, Any] = msgspec.structs.asdict(self)
        del members["hash"]
        # Canonical, since every name is ASCII and every value text or a whole number; a tenth of the time.
        text = json.dumps(members, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return sha256(text.encode()).hex()


class Head(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The last entry."""

    sequence: int = 0
    hash: str = START


class Recorder:
    """Puts events at the end that change nothing else, those that come at once in one change.

    Each change ends with the host's disk: whoever waits for the one before goes into the next together.

    Args:
        storage: where the record is.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._waiting: list[_Ticket] = []
        self._gather = threading.Lock()
        self._change = threading.Lock()

    def record(self, happen: Callable[[Reading], Event], then: Callable[[], None]) -> None:
        """Have something happen, and go on once it is on record.

        Args:
            happen: finds out, in the change itself, what happens, or raises that it does not; may run again.
            then: does what follows from it and is of no use before it is on record; while the host
                writes, or after.

        Raises:
            Exception: what ``happen`` or ``then`` raised, or the store, which keeps nothing then.
        """
        mine = _Ticket(happen, then)
        with self._gather:
            self._waiting.append(mine)
        with self._change:
            if not mine.tried:
                self._keep(mine.follow)
        mine.follow()
        if mine.error is not None:
            raise mine.error

    def _keep(self, meanwhile: Callable[[], None]) -> None:
        with self._gather:
            several, self._waiting = self._waiting, []
        error: Exception | None = InternalError("audit: was left in the middle")
        try:
            self._storage.update(lambda writing: _append_all(writing, several), meanwhile)
            error = None
        except KluisError as refused:
            error = refused
        finally:
            for each in several:
                each.tried, each.error = True, each.error or error


class _Ticket:
    """Something that waits to be on record, and what came of it."""

    def __init__(self, happen: Callable[[Reading], Event], then: Callable[[], None]) -> None:
        self._happen = happen
        self._then = then
        self._followed = False
        self.tried = False
        self.error: Exception | None = None

    def happen(self, reading: Reading) -> Event | None:
        """What happens; None if it does not, which :attr:`error` tells of."""
        self.error, self._followed = None, False
        try:
            return self._happen(reading)
        except Exception as error:  # noqa: BLE001 - it ends this one alone, not those that go with it
            self.error = error
            return None

    def follow(self) -> None:
        """Do what follows, once, unless nothing happened; :attr:`error` tells if it fails."""
        if self.error is not None or self._followed:
            return
        self._followed = True
        try:
            self._then()
        except Exception as error:  # noqa: BLE001 - the change that is under way is of others too
            self.error = error


def _append_all(writing: Writing, several: Iterable[_Ticket]) -> None:
    for each in several:
        event = each.happen(writing)
        if event is not None:
            append(writing, event)


def append(writing: Writing, event: Event) -> int:
    """Put an event at the end; gives its entry's number."""
    last = head(writing)
    # The issuer's words go into canonical JSON, in which half a character has no place.
    subject = event.subject.encode("utf-8", "replace").decode()
    members = event._replace(subject=subject)._asdict()
    bare = Entry(sequence=last.sequence + 1, previous=last.hash, hash="", **members)
    entry = msgspec.structs.replace(bare, hash=bare.compute_hash())
    writing.put(TABLE, f"{entry.sequence:0{_DIGITS}}", encode(entry))
    writing.put(HEAD, HEAD, encode(Head(entry.sequence, entry.hash)))
    return entry.sequence


def head(reading: Reading) -> Head:
    """The last entry's number and hash."""
    value = reading.get(HEAD, HEAD)
    return Head() if value is None else decode(Head, value, "stored audit head")


def entries(reading: Reading, after: int, most: int) -> Iterator[Entry]:
    """Entries after number ``after``, at most ``most``."""
    for sequence in range(after + 1, min(after + most, head(reading).sequence) + 1):
        value = reading.get(TABLE, f"{sequence:0{_DIGITS}}")
        if value is not None:
            yield decode(Entry, value, "stored audit entry")
