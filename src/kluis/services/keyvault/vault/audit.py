"""The record of events on keys: a hash chain in the store.

An entry is stored in the same transaction as its event. Anyone who has the head's hash can check later that
no earlier entry was changed or left out. The hash of an entry is

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
    """An event on a key.

    Attributes:
        operation: ``create``, ``import``, ``update``, ``rotate``, ``policy``, ``rotation-policy``,
            ``delete``, ``recover``, ``purge``, ``backup``, ``restore``, ``release``; ``auto-rotate``,
            ``near-expiry`` and ``auto-purge`` for automatic upkeep; ``trust-approve``, ``trust-withdraw`` and
            ``trust-adopt`` for the vault itself.
        key: name of the key.
        version: of the key.
        subject: of the requester's token; empty for automatic upkeep.
        time: seconds since 1970, by the host's clock.
        authority: that attested the environment; for a release.
        target: SHA-256, hex: of a release's attestation token; or of the set of authorities and issuer.
        recipient: SHA-256 of the DER of the environment's key, hex; for a release.
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
    """An event in the hash chain.

    Attributes:
        sequence: from 1, without a gap.
        previous: the hash of the previous entry, hex; zeros for the first.
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
        """Compute the hash from the other members."""
        members: dict[str, Any] = msgspec.structs.asdict(self)
        del members["hash"]
        # Canonical, because every name is ASCII and every value is text or an integer; it takes a tenth of
        # the time.
        text = json.dumps(members, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return sha256(text.encode()).hex()


class Head(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The last entry."""

    sequence: int = 0
    hash: str = START


class Recorder:
    """Appends events that change nothing else; concurrent ones share a transaction.

    Each transaction waits for the host's disk: callers that arrive meanwhile are combined in the next one.

    Args:
        storage: where the record is.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._waiting: list[_Ticket] = []
        self._gather = threading.Lock()
        self._change = threading.Lock()

    def record(self, happen: Callable[[Reading], Event], *then: Callable[[], None]) -> None:
        """Record an event, and return once it is recorded.

        Args:
            happen: determines the event within the transaction, or raises if there is none; may run again.
            then: work that is only useful once the event is recorded, in steps: the first one runs while the
                host writes, the second one while the witness is updated, or all after.

        Raises:
            Exception: from ``happen`` or ``then``, or from the store, which then stores nothing.
        """
        mine = _Ticket(happen, then)
        with self._gather:
            self._waiting.append(mine)
        with self._change:
            if not mine.tried:
                self._keep(mine.follow)
        mine.finish()
        if mine.error is not None:
            raise mine.error

    def _keep(self, meanwhile: Callable[[], None]) -> None:
        with self._gather:
            several, self._waiting = self._waiting, []
        error: Exception | None = InternalError("audit: was left in the middle")
        try:
            self._storage.update(lambda writing: _append_all(writing, several), meanwhile, meanwhile)
            error = None
        except KluisError as refused:
            error = refused
        finally:
            for each in several:
                each.tried, each.error = True, each.error or error


class _Ticket:
    """An event waiting to be recorded, and its outcome."""

    def __init__(self, happen: Callable[[Reading], Event], then: tuple[Callable[[], None], ...]) -> None:
        self._happen = happen
        self._then = then
        self._followed = 0
        self.tried = False
        self.error: Exception | None = None

    def happen(self, reading: Reading) -> Event | None:
        """The event; None if there is none, then :attr:`error` has the reason."""
        self.error, self._followed = None, 0
        try:
            return self._happen(reading)
        except Exception as error:  # noqa: BLE001 - it fails only this event, not the others
            self.error = error
            return None

    def follow(self) -> None:
        """Run the next step, unless there was no event; :attr:`error` has its failure."""
        if self.error is not None or self._followed == len(self._then):
            return
        step = self._then[self._followed]
        self._followed += 1
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the change that is under way is of others too
            self.error = error

    def finish(self) -> None:
        """Run the steps that are left."""
        while self.error is None and self._followed < len(self._then):
            self.follow()


def _append_all(writing: Writing, several: Iterable[_Ticket]) -> None:
    for each in several:
        event = each.happen(writing)
        if event is not None:
            append(writing, event)


def append(writing: Writing, event: Event) -> int:
    """Append an event; return its entry's number."""
    last = head(writing)
    # The issuer's text goes into canonical JSON, which cannot contain half a surrogate pair.
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
