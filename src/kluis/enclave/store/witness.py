"""The witness of a store: a counter of the platform, which remembers the last commit it was told of.

The host keeps every record, and so can set all of them back at once: the head is then as genuine as it was.
A platform counter remembers, for each store, the epoch of its last commit and the chain that stood there, so
a set-back store is seen, and so is one whose history forked. It is one platform's, and a platform keeps
it in a file: see :attr:`Witness.label`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from kluis.enclave.counters import Counter
from kluis.enclave.sealing import Policy
from kluis.enclave.store.cipher import Cipher

UNDETECTED: Final = "undetected"
OVER: Final = (1 << 53) - 1
"""The epoch that a store is at whose key was changed: no commit has it."""


class Witnessed(NamedTuple):
    """The last commit that a witness was told of: its epoch, and the chain after it (empty at epoch 0)."""

    epoch: int
    chain: bytes


class Witness(Protocol):
    """Remembers, beyond the host's reach.

    Attributes:
        label: who would notice if the host set the store back.
    """

    label: str

    def read(self) -> Witnessed:
        """The last commit that it was told of."""
        ...

    def advance(self, to: Witnessed) -> Witnessed:
        """Tell it of a commit, durably; it never goes back.

        Returns:
            What it remembers then: ``to``, a later one, or another that it was told of with this epoch.
        """
        ...


class CounterWitness:
    """The platform's counter as a witness: of the store that ``key`` opens, on this platform.

    Args:
        key: the storage key, 32 bytes. The counter's name is made from it, so a store with another key is
            another store: a host that drops everything, sealed key and all, has a new and empty one.
        policy: what the key is sealed to. The counter is of the same: all that can open the key share it.
    """

    label: str = "detected while the platform runs"
    """The platform keeps its counters in a file, which its operator could set back while it is stopped."""

    def __init__(self, key: bytes, policy: Policy) -> None:
        self._counter = _counter(Cipher(key).name(), policy)

    def read(self) -> Witnessed:
        """As :meth:`Witness.read`."""
        marked = self._counter.read_marked()
        return Witnessed(marked.value, marked.mark)

    def advance(self, to: Witnessed) -> Witnessed:
        """As :meth:`Witness.advance`."""
        marked = self._counter.advance(to.epoch, to.chain)
        return Witnessed(marked.value, marked.mark)


def end(name: bytes, policy: Policy) -> None:
    """Have this platform remember that the store whose key has this public name (32 bytes) is over.

    Args:
        name: of the key.
        policy: what the key was sealed to.
    """
    counter = _counter(name, policy)
    if counter.read_marked().value < OVER:
        counter.advance(OVER)


def _counter(name: bytes, policy: Policy) -> Counter:
    return Counter(f"kluis store {name.hex()}", policy=policy)
