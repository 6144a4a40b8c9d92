"""Monotonic counters: they never go back while the platform runs.

A counter can have a mark, some bytes stored with its value. If two enclaves reach the same value with
different marks, the first mark is kept, and the second enclave gets it.

A user may create half of the counters that the others leave, so the next user always finds some. Root may
create all that are left.

Across restarts they are a file, and anyone who restores an older state directory rolls them back. So every
value comes with its witness, which is ``unwitnessed`` until something outside records it.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from kluis.errors import PolicyError, UsageError
from kluis.formats.kluis.launch import UNWITNESSED
from kluis.tee.platform.root.slots import Held, Slots
from kluis.tee.platform.shares import share

MOST_EACH: Final = 256
MOST: Final = 4096
LARGEST: Final = (1 << 53) - 1


MARK_BYTES: Final = 32


class Counters:
    """All counters of a platform, in one file, written before a change is answered.

    Args:
        path: the file; see :mod:`kluis.tee.platform.root.slots`.

    Raises:
        UnavailableError: it is another user's, or accessible to others.
        FormatError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._slots = Slots(path)
        self._values = self._slots.values

    def read(self, owner: str, counter: bytes) -> tuple[int, str, bytes]:
        """The value, 0 for one never changed; its witness; its mark, empty if there is none."""
        with self._lock:
            value, mark, _ = self._values.get(f"{owner}/{counter.hex()}", NONE)
            return value, UNWITNESSED, mark

    def increment(self, owner: str, counter: bytes, user: int = 0) -> tuple[int, str, bytes]:
        """Add one and return the new value, which is on disk by then, and its witness; there is no mark.

        Raises:
            PolicyError: it, its user, or the platform has too many counters: code ``counters``; or this one
                has reached its end, 2^53-1: ``counter_end``.
        """
        with self._lock:
            value = self._values.get(f"{owner}/{counter.hex()}", NONE)[0] + 1
            if value > LARGEST:
                raise PolicyError("counter: is at its end", code="counter_end")
            return self._change(owner, counter, value, b"", user)

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
            value, marked, _ = self._values.get(f"{owner}/{counter.hex()}", NONE)
            if to <= value:
                return value, UNWITNESSED, marked
            return self._change(owner, counter, to, mark, user)

    def _change(
        self, owner: str, counter: bytes, value: int, mark: bytes, user: int
    ) -> tuple[int, str, bytes]:
        name = f"{owner}/{counter.hex()}"
        if found := self._values.get(name):
            user = found.user  # its creator
        else:
            users = sum(1 for held in self._values.values() if held.user == user)
            mine = sum(1 for other in self._values if other.startswith(f"{owner}/"))
            for most, there, whose in (
                (MOST_EACH, mine, "one product"),
                (MOST, len(self._values), "a platform"),
                (share(MOST, len(self._values) - users, user), users, "one user"),
            ):
                if there >= most:
                    raise PolicyError(
                        f"counter: want at most {most} for {whose}, got one more", code="counters"
                    )
        self._slots.write(name, Held(value, mark, user))
        return value, UNWITNESSED, mark


NONE: Final = Held(0, b"")
