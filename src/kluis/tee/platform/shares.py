"""Limit each user's share of a shared resource: half of what the others leave.

So the next user always finds some, even if others came first. Root and the platform's own user, who are its
operators, may take all that is left.
"""

from __future__ import annotations

import collections
import os
import threading

from kluis.errors import PolicyError


def share(total: int, others: int, user: int) -> int:
    """The share of ``total`` for a user, if others have ``others``."""
    left = max(total - others, 0)
    return left if is_operator(user) else (left + 1) // 2


def is_operator(user: int) -> bool:
    """Whether a user id is root's or the platform's own."""
    return user in (0, os.geteuid())


class Taken:
    """Each user's share of one resource. Thread-safe.

    Args:
        rule: name of the limit, for messages.
        fix: what an operator can do if there is too little.
    """

    def __init__(self, rule: str, fix: str) -> None:
        self._rule = rule
        self._fix = fix
        self._lock = threading.Lock()
        self._each: collections.Counter[int] = collections.Counter()

    def take(self, user: int, amount: int, total: int) -> None:
        """Take ``amount`` of ``total`` for a user.

        Raises:
            PolicyError: there is too little left for anyone, or for this user.
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


class Turns:
    """One lock for each user, for work that a user may do once at a time. Thread-safe.

    Operators do not wait for each other: they may take all that there is.
    """

    def __init__(self) -> None:
        self._each: dict[int, threading.Lock] = {}

    def of(self, user: int) -> threading.Lock:
        """The lock of a user; for an operator, one that nobody has."""
        return threading.Lock() if is_operator(user) else self._each.setdefault(user, threading.Lock())
