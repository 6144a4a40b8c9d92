"""The state of one verifier: its trust anchors, its signature engine, and a cache of what it has verified.

Nothing here is global. A context may be used by many threads at once.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from kluis.errors import AuthenticityError, UsageError
from kluis.evidence.anchors import TrustAnchors
from kluis.evidence.engine import OPENSSL, Engine, Key
from kluis.formats.x509 import Scheme
from kluis.frozen import frozen

CAPACITY: Final = 4096
# PEM can be of any length: the same certificates with other line ends are other bytes.
MOST_BYTES: Final = 32 << 10


class Memory:
    """A cache of verified results, by the exact bytes that proved them; the oldest entry is dropped first.

    Only successes are cached, and nothing that depends on time, revocation or status: those are checked again
    at every use.

    Args:
        capacity: of entries, at least 1.
    """

    __slots__ = ("_capacity", "_entries")

    def __init__(self, capacity: int = CAPACITY) -> None:
        if capacity < 1:
            raise UsageError(f"memory: want a capacity of at least 1, got {capacity}")
        self._capacity = capacity
        # One dictionary, whose single operations are atomic: no lock is needed.
        self._entries: dict[tuple[str | Scheme, bytes], Any] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, kind: str | Scheme, key: bytes) -> Any | None:
        """The value stored under ``kind`` and exactly these bytes, or None."""
        return self._entries.get((kind, key))

    def put(self, kind: str | Scheme, key: bytes, value: object) -> None:
        """Store a success. Results proven by more than 32 KiB are not cached."""
        if len(key) > MOST_BYTES:
            return
        entries = self._entries
        while len(entries) >= self._capacity:
            try:
                del entries[next(iter(entries))]
            except (KeyError, RuntimeError, StopIteration):
                # Another thread removed it first.
                continue
        entries[kind, key] = value


@frozen
class Context:
    """A verifier's trust anchors, signature engine and cache.

    Attributes:
        anchors: the trusted roots.
        engine: checks signatures.
        memory: of earlier results; empty for a single verification.
        lasting: whether more verifications follow, so that caching is worth its cost.
    """

    anchors: TrustAnchors
    engine: Engine = OPENSSL
    memory: Memory = dataclasses.field(default_factory=Memory)
    lasting: bool = False

    def forgetful(self) -> Context:
        """The same context without caching, for keys that are not certified: there may be any number of
        them.
        """
        return dataclasses.replace(self, memory=Memory(), lasting=False)

    def key(self, spki: bytes, scheme: Scheme, what: str, *, code: str) -> Key:
        """Load a public key, once for the same bytes.

        Raises:
            AuthenticityError: not a key of that scheme.
        """
        try:
            loaded: Key | None = self.anchors.key(spki, scheme, self.engine) or self.memory.get(scheme, spki)
            if loaded is None:
                loaded = self.engine.key(spki, scheme)
                self.memory.put(scheme, spki, loaded)
        except ValueError as error:
            raise AuthenticityError(
                f"{what}: want a key for {scheme.value}, got an unusable one: {_first_line(error)}", code=code
            ) from None
        return loaded


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:80]
