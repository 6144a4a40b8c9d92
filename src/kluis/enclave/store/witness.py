"""The witness of a store: a platform counter that records the store's last commit.

The host keeps every record, and so can roll all of them back at once: the old head is authentic. A platform
counter records, for each store, the epoch of its last commit and the chain after it. So a rolled back store
is detected, and so is a forked history. The counter belongs to one platform, which keeps it in a file: see
:attr:`Witness.label`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from kluis.enclave.attester import nothing
from kluis.enclave.counters import Counter
from kluis.enclave.sealing import Policy
from kluis.enclave.store.cipher import Cipher

UNDETECTED: Final = "undetected"
OVER: Final = (1 << 53) - 1
"""The epoch of a store whose key was replaced: no commit has it."""


class Witnessed(NamedTuple):
    """The last commit that a witness recorded: its epoch, and the chain after it (empty at epoch 0)."""

    epoch: int
    chain: bytes


class Witness(Protocol):
    """Records commits beyond the host's reach.

    Attributes:
        label: what would detect a rollback by the host.
    """

    label: str

    def read(self) -> Witnessed:
        """The last recorded commit."""
        ...

    def advance(self, to: Witnessed, meanwhile: Callable[[], None] = nothing) -> Witnessed:
        """Record a commit, durably; it never goes back.

        Args:
            to: the commit.
            meanwhile: runs in this thread while it is recorded; must not raise.

        Returns:
            The new record: ``to``, a later one, or an earlier recorded one with this epoch.
        """
        ...


class CounterWitness:
    """The platform's counter as a witness for the store that ``key`` opens, on this platform.

    Args:
        key: the storage key, 32 bytes. The counter's name is derived from it, so a store with another key is
            another store: a host that deletes everything, including the sealed key, has a new and empty one.
        policy: that the key is sealed to. The counter has the same policy: all enclaves that can open the key
            share it.
    """

    label: str = "detected while the platform runs"
    """The platform keeps its counters in a file, which its operator could roll back while it is stopped."""

    def __init__(self, key: bytes, policy: Policy) -> None:
        self._counter = _counter(Cipher(key).name(), policy)

    def read(self) -> Witnessed:
        """As :meth:`Witness.read`."""
        marked = self._counter.read_marked()
        return Witnessed(marked.value, marked.mark)

    def advance(self, to: Witnessed, meanwhile: Callable[[], None] = nothing) -> Witnessed:
        """As :meth:`Witness.advance`."""
        marked = self._counter.advance(to.epoch, to.chain, meanwhile)
        return Witnessed(marked.value, marked.mark)


def end(name: bytes, policy: Policy) -> None:
    """Record on this platform that the store whose key has this public name (32 bytes) has ended.

    Args:
        name: of the key.
        policy: that the key was sealed to.
    """
    counter = _counter(name, policy)
    if counter.read_marked().value < OVER:
        counter.advance(OVER)


def _counter(name: bytes, policy: Policy) -> Counter:
    return Counter(f"kluis store {name.hex()}", policy=policy)
