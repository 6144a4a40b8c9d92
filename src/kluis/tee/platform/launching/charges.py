"""What launches take of this machine, charged to their users: places, heaps and scratch.

An enclave can pass the descriptor of its scratch to its host, who keeps the disk's space with it. So scratch
stays charged until nobody has it open, and the enclave's place as well, which limits the number of such
files.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable

from kluis.tee.platform import shares
from kluis.tee.platform.launching import holding, scratch
from kluis.tee.platform.launching.policy import LaunchPolicy


class Charges:
    """Each user's places, heaps and scratch. Thread-safe.

    Args:
        policy: limits the places.
        is_free: whether nobody has the scratch of an enclave open that has ended, by the enclave's name.
    """

    def __init__(self, policy: LaunchPolicy, is_free: Callable[[str], bool]) -> None:
        self._policy = policy
        self._is_free = is_free
        self._places = shares.Taken("max_enclaves", "have the operator raise max_enclaves in launch.toml")
        self._heaps = shares.Taken("heap", "lower heap in kluis.toml: heaps share this machine's memory")
        self._scratches = shares.Taken(
            "scratch", "lower scratch in kluis.toml: it shares the platform's disk"
        )
        self._left: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def take(self, user: int, heap_bytes: int, scratch_bytes: int) -> None:
        """Reserve a place, a heap and scratch for a user, or none of them.

        Root's heaps are limited by ``max_heap`` and ``max_enclaves``: a heap is never used completely.

        Raises:
            PolicyError: there is too little left for anyone, or for this user.
        """
        self.tidy()
        memory = 2 * holding.half_of_memory() if not shares.is_operator(user) else sys.maxsize
        wanted = (
            (self._places, 1, self._policy.max_enclaves),
            (self._heaps, heap_bytes, memory),
            (self._scratches, scratch_bytes, self._scratches.total() + scratch.free_bytes()),
        )
        with contextlib.ExitStack() as taken:
            for what, amount, total in wanted:
                what.take(user, amount, total)
                taken.callback(what.give_back, user, amount)
            taken.pop_all()

    def give_back(self, name: str, user: int, heap_bytes: int, scratch_bytes: int) -> None:
        """Give back what an enclave took that has ended: its scratch and place once the scratch is free."""
        self._heaps.give_back(user, heap_bytes)
        with self._lock:
            self._left[name] = user, scratch_bytes
        self.tidy()

    def tidy(self) -> None:
        """Give back the places and scratch of ended enclaves that nobody has open any more."""
        with self._lock:
            left = dict(self._left)
        for name, (user, scratch_bytes) in left.items():
            if scratch_bytes and not self._is_free(name):
                continue
            with self._lock:
                mine = self._left.pop(name, None)  # unless another thread was faster
            if mine is not None:
                self._scratches.give_back(user, scratch_bytes)
                self._places.give_back(user, 1)
