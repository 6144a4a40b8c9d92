"""All instances of one service: on one socket and one database, replaced without a refused client."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from kluis.errors import KluisError
from kluis.serve.instance import Instance

__all__ = ["Fleet"]

DRAIN_SECONDS: Final = 30.0


class Fleet:
    """The running instances of one service.

    Args:
        service: its name.
        start: starts one instance.
        count: how many there are.
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
    ) -> None:
        self.service = service
        self._start = start
        self._count = count
        self._begin = begin
        self._lock = threading.Lock()
        self._instances: list[Instance] = []
        self._ended: list[KluisError] = []

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those that run now."""
        return tuple(self._instances)

    def start(self) -> None:
        """Start all, one after the other: the first makes what the others take over.

        Raises:
            KluisError: one did not start; those that did are ended.
        """
        with self._lock:
            self._instances = self._begin_all(self._start_many(self._count))

    def replace(self) -> None:
        """Start new ones beside the old, then let the old ones finish what they do: nobody is refused.

        Raises:
            KluisError: a new one did not start; the old ones go on.
        """
        with self._lock:
            fresh = self._start_many(self._count)
            old, self._instances = self._instances, fresh if self._begin is None else []
            self._end(old, DRAIN_SECONDS)
            if self._begin is not None:
                self._instances = self._begin_all(fresh)

    def mend(self) -> list[KluisError]:
        """Start one in place of each that ended by itself.

        Returns:
            Why each ended whose place is taken now.

        Raises:
            KluisError: one did not start.
        """
        with self._lock:
            faults = [(one, fault) for one in self._instances if (fault := one.fault()) is not None]
            for one, fault in faults:
                self._instances.remove(one)
                self._ended.append(fault)
                one.drain(0.0)
            self._instances += self._begin_all(self._start_many(self._count - len(self._instances)))
            ended, self._ended = self._ended, []
            return ended

    def rename(self, name: Callable[[bytes], bytes]) -> None:
        """Have all show new certificates."""
        with self._lock:
            for one in self._instances:
                one.rename(name)

    def tend(self) -> list[KluisError]:
        """Have each do what is due by now; waits for none.

        Returns:
            What the time before ended in, of those that it ended in an error of.
        """
        return [fault for one in self.instances if (fault := one.tend()) is not None]

    def stop(self) -> None:
        """Let what runs end, then end all."""
        with self._lock:
            old, self._instances = self._instances, []
            self._end(old, DRAIN_SECONDS)

    def _start_many(self, count: int) -> list[Instance]:
        """So many new ones, or none."""
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
