"""What one user may take of something that all users share: half of what the others leave.

So the next user always finds some, whoever came first; root and the platform's own user, who are its
operators, may take all that is left.
"""

from __future__ import annotations

import collections
import os
import threading

from kluis.errors import PolicyError


def share(total: int, others: int, user: int) -> int:
    """How much of ``total`` a user may have, where others have ``others``."""
    left = max(total - others, 0)
    return left if is_operator(user) else (left + 1) // 2


def is_operator(user: int) -> bool:
    """Whether a user id is root's or the platform's own."""
    return user in (0, os.geteuid())


class Taken:
    """How much of one thing each user has. Thread-safe.

    Args:
        rule: the name of what bounds it, for messages.
        fix: what an operator can do where there is too little.
    """

    def __init__(self, rule: str, fix: str) -> None:
        self._rule = rule
        self._fix = fix
        self._lock = threading.Lock()
        self._each: collections.Counter[int] = collections.Counter()

    def take(self, user: int, amount: int, total: int) -> None:
        """Take ``amount`` of ``total`` for a user.

        Raises:
            PolicyError: there is too little left for anybody, or for this user.
        """
        with self._lock:
            others = self._each.total() - self._each[user]
            most, want = share(total, others, user), self._each[user] + amount
            if want > most:
                whose = "" if others + want > total else " for one user"
                raise PolicyError(
                    f"launch policy: {self._rule}: want at most {most}{whose}, got {want}",
                    hint=f"end an enclave, or {self._fix}",
                )
            self._each[user] += amount

    def total(self) -> int:
        """How much all users have."""
        with self._lock:
            return self._each.total()

    def give_back(self, user: int, amount: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._each[user] -= amount
            self._each += collections.Counter()
