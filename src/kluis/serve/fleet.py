"""All instances of one service, on one socket and one database, replaced without refusing clients."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from kluis.errors import KluisError
from kluis.serve.instance import Instance, Naming

DRAIN_SECONDS: Final = 30.0


class Fleet:
    """The running instances of one service.

    Attributes:
        restarts: how many instances ended by themselves and were replaced.

    Args:
        service: name.
        start: starts one instance.
        count: of instances.
        listener: socket for clients, whose queue is measured; None: it is not.
        begin: where only one may be at work: makes one serve that ``start`` prepared. A new one then begins
            after the old one has ended; clients wait in the socket's queue meanwhile. None: those that were
            started serve.
    """

    def __init__(
        self,
        service: str,
        start: Callable[[], Instance],
        count: int,
        begin: Callable[[Instance], None] | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self.service = service
        self._start = start
        self._count = count
        self._begin = begin
        self.listener = listener
        self.restarts = 0
        self._lock = threading.Lock()
        self._instances: list[Instance] = []
        self._ended: list[KluisError] = []

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The running instances."""
        return tuple(self._instances)

    def start(self) -> None:
        """Start all, one after the other: the first creates what the others use.

        Raises:
            KluisError: one did not start; the started ones are ended.
        """
        with self._lock:
            self._instances = self._begin_all(self._start_many(self._count))

    def replace(self) -> None:
        """Start new instances alongside the old ones, then drain the old ones: no client is refused.

        Raises:
            KluisError: a new one did not start, and the old ones continue. Or the only one that may be at
                work did not begin: the old one has ended, and :meth:`repair` starts another.
        """
        with self._lock:
            fresh = self._start_many(self._count)
            old, self._instances = self._instances, fresh if self._begin is None else []
            self._end(old, DRAIN_SECONDS)
            if self._begin is not None:
                self._instances = self._begin_all(fresh)

    def repair(self) -> list[KluisError]:
        """Start a replacement for each instance that ended by itself.

        Returns:
            The reasons for which the replaced instances ended.

        Raises:
            KluisError: one did not start.
        """
        with self._lock:
            faults = [(one, fault) for one in self._instances if (fault := one.fault()) is not None]
            for one, fault in faults:
                self._instances.remove(one)
                self.restarts += 1
                self._ended.append(fault)
                one.drain(0.0)
            self._instances += self._begin_all(self._start_many(self._count - len(self._instances)))
            ended, self._ended = self._ended, []
            return ended

    def rename(self, name: Naming) -> None:
        """Make all instances use new certificates."""
        with self._lock:
            for one in self._instances:
                one.rename(name)

    def tend(self) -> list[KluisError]:
        """Trigger each instance's upkeep, without waiting.

        Returns:
            The errors of the previous run, if there were any.
        """
        return [fault for one in self.instances if (fault := one.tend()) is not None]

    def stop(self) -> None:
        """Drain and end all instances."""
        with self._lock:
            old, self._instances = self._instances, []
            self._end(old, DRAIN_SECONDS)

    def _start_many(self, count: int) -> list[Instance]:
        """Start that many new ones, or none."""
        made: list[Instance] = []
        try:
            made.extend(self._start() for _ in range(count))  # one by one: what was made is there to be ended
        except BaseException:
            self._end(made, 0.0)
            raise
        return made

    def _begin_all(self, prepared: list[Instance]) -> list[Instance]:
        """Those that were prepared, serving; or none of them."""
        if self._begin is not None:
            try:
                for one in prepared:
                    self._begin(one)
            except BaseException:
                self._end(prepared, 0.0)
                raise
        return prepared

    def _end(self, instances: list[Instance], seconds: float) -> None:
        if not instances:
            return
        with ThreadPoolExecutor(len(instances)) as threads:
            list(threads.map(lambda one: one.drain(seconds), instances))
