"""Monotonic counters: they never go back while the platform runs.

A counter can have a mark, some bytes stored with its value. If two enclaves reach the same value with
different marks, the first mark is kept, and the second enclave gets it.

A user may create half of the counters that the others leave, so the next user always finds some. Root may
create all that are left.

Across restarts they are a file, and anyone who restores an older state directory rolls them back, unless a
witness outside of the disk records each change before it is reported. So every value comes with its witness:
``witnessed``, or ``unwitnessed`` if there is none.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final, Protocol

from kluis.errors import PolicyError, UnavailableError, UsageError
from kluis.formats.kluis.launch import UNWITNESSED, WITNESSED
from kluis.tee.platform.root.slots import Held, Slots
from kluis.tee.platform.shares import share

MOST_EACH: Final = 256
MOST: Final = 4096
LARGEST: Final = (1 << 53) - 1


MARK_BYTES: Final = 32


class Witness(Protocol):
    """Something outside of the disk that records the digest of the file's content."""

    def check(self, digest: bytes, before: bytes) -> None:
        """Compare the digest, and the one before the last change, with what was recorded; 32 bytes each.

        Raises:
            UnavailableError: an older file was restored.
        """

    def record(self, digest: bytes) -> None:
        """Record the digest of the file on disk, 32 bytes.

        Raises:
            UnavailableError: it could not be recorded.
        """


class Counters:
    """All counters of a platform, in one file, written before a change is answered.

    Args:
        path: the file; see :mod:`kluis.tee.platform.root.slots`.
        witness: records each change; None if there is none.

    Attributes:
        witness: ``witnessed`` or ``unwitnessed``.

    Raises:
        UnavailableError: it is another user's, or accessible to others; or an older one was restored.
        FormatError: it is damaged.
    """

    def __init__(self, path: Path, witness: Witness | None = None) -> None:
        self._lock = threading.Lock()
        self._slots = Slots(path)
        self._values = self._slots.values
        self._witness = witness
        self._unrecorded = False
        self.witness = UNWITNESSED if witness is None else WITNESSED
        if witness is not None:
            witness.check(self._slots.digest(), self._slots.digest_before())

    def read(self, owner: str, counter: bytes) -> tuple[int, str, bytes]:
        """The value, 0 for one never changed; its witness; its mark, empty if there is none."""
        with self._lock:
            self._check_recorded()
            value, mark, _ = self._values.get(f"{owner}/{counter.hex()}", NONE)
            return value, self.witness, mark

    def increment(self, owner: str, counter: bytes, user: int = 0) -> tuple[int, str, bytes]:
        """Add one and return the new value, which is on disk by then, and its witness; there is no mark.

        Raises:
            PolicyError: it, its user, or the platform has too many counters: code ``counters``; or this one
                has reached its end, 2^53-1: ``counter_end``.
        """
        with self._lock:
            self._check_recorded()
            found = self._values.get(name := f"{owner}/{counter.hex()}", NONE)
            if found.value >= LARGEST:
                raise PolicyError("counter: is at its end", code="counter_end")
            return self._change(owner, name, found, Held(found.value + 1, b"", user))

    def advance(
        self, owner: str, counter: bytes, to: int, mark: bytes, user: int = 0
    ) -> tuple[int, str, bytes]:
        """Set it to ``to`` and ``mark`` if that is higher than its value, and return its new state.

        Args:
            owner: of the counter.
            counter: its id, 32 bytes.
            to: 1..2^53-1.
            mark: at most 32 bytes.
            user: that launched the requesting enclave.

        Raises:
            UsageError: an argument is out of bounds.
            PolicyError: the owner, the user, or the platform has too many counters; code ``counters``.
        """
        if not 1 <= to <= LARGEST:
            raise UsageError(f"counter.to: want 1..{LARGEST}, got {to}")
        if len(mark) > MARK_BYTES:
            raise UsageError(f"counter.mark: want at most {MARK_BYTES} bytes, got {len(mark)}")
        with self._lock:
            self._check_recorded()
            found = self._values.get(name := f"{owner}/{counter.hex()}", NONE)
            if to <= found.value:
                return found.value, self.witness, found.mark
            return self._change(owner, name, found, Held(to, mark, user))

    def _change(self, owner: str, name: str, found: Held, to: Held) -> tuple[int, str, bytes]:
        if found is NONE:
            self._check_room(owner, to.user)
        elif found.user != to.user:  # the counter stays its creator's
            to = to._replace(user=found.user)
        self._slots.write(name, to)
        if self._witness is not None:
            self._unrecorded = True  # until it is recorded: a value that is read could be rolled back
            self._witness.record(self._slots.digest())
            self._unrecorded = False
        return to.value, self.witness, to.mark

    def _check_room(self, owner: str, user: int) -> None:
        """Raises PolicyError if there is no room for one more counter of an owner and a user."""
        users = sum(1 for each in self._values.values() if each.user == user)
        mine = sum(
            1 for other, each in self._values.items() if each.user == user and other.startswith(f"{owner}/")
        )
        for most, there, whose in (
            (MOST_EACH, mine, "one product of one user"),
            (MOST, len(self._values), "a platform"),
            (share(MOST, len(self._values) - users, user), users, "one user"),
        ):
            if there >= most:
                raise PolicyError(f"counter: want at most {most} for {whose}, got one more", code="counters")

    def _check_recorded(self) -> None:
        """Have the witness record the last change, if it could not: what is read could be rolled back.

        A TPM may refuse for a moment, as when it limits how often it is written. The counters are every
        user's.

        Raises:
            UnavailableError: it still cannot.
        """
        if not self._unrecorded or self._witness is None:
            return
        try:
            self._witness.check(self._slots.digest(), self._slots.digest_before())
        except UnavailableError as error:
            raise UnavailableError(
                f"counters: the last change could not be recorded by their witness: {error.message}",
                hint="try again; if it goes on: kluis platform stop, then kluis platform start",
                code="witness",
            ) from None
        self._unrecorded = False


NONE: Final = Held(0, b"")
