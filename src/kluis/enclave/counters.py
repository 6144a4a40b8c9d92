"""Monotonic counters, with an honest label: who would notice if the platform's store were set back."""

from __future__ import annotations

from typing import NamedTuple

from kluis.enclave.inside import inside
from kluis.errors import UsageError
from kluis.formats import channel
from kluis.hashes import sha256

__all__ = ["Counter", "Reading", "counter"]


class Reading(NamedTuple):
    """What a counter said: its value, and its witness (``unwitnessed`` where there is none)."""

    value: int
    witness: str


class Counter:
    """A counter that only goes up, of this enclave's signer and product.

    The platform detects a rollback while it runs, and across its restarts only with a witness.

    Args:
        name: 1 to 256 characters; the same name is the same counter.

    Raises:
        UsageError: the name is out of bounds.
    """

    def __init__(self, name: str) -> None:
        if not 1 <= len(name) <= 256:
            raise UsageError(f"counter name: want 1 to 256 characters, got {len(name)}")
        self.name = name
        self._id = sha256(b"kluis counter\x00" + name.encode())

    def read(self) -> Reading:
        """Read it; a counter that was never incremented is 0."""
        return self._ask("read")

    def increment(self) -> Reading:
        """Add one, durably, and return the new value."""
        return self._ask("increment")

    def _ask(self, op: str) -> Reading:
        answer = inside("counter").session.request(channel.Counter(self._id, op), channel.Count)
        return Reading(answer.value, answer.witness)


def counter(name: str) -> Counter:
    """The counter called ``name``."""
    return Counter(name)
