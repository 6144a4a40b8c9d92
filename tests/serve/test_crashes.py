"""A host or an enclave that dies in the middle of its work loses nothing that was acknowledged."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.databases import database_url, postgres
from tests.serve.served import Admin, Served, free_ports

__all__ = ["database_url", "postgres"]

SERVICES = ("attestation", "keyvault")


class Writers:
    """Two writers, one of keys and one of policies; all confirmed writes are kept."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.policy = 0
        self.tried = 0
        self.number = 0
        self._stop = threading.Event()

    def run(self, told: object, until: Callable[[], None]) -> None:
        """Write all the time, and once some is kept, until ``until`` has run."""
        self._stop.clear()
        threads = [threading.Thread(target=each, args=(told,)) for each in (self._keys, self._policies)]
        keys, policy, end = len(self.keys) + 3, self.policy + 2, time.monotonic() + 300
        for one in threads:
            one.start()
        while (len(self.keys) < keys or self.policy < policy) and time.monotonic() < end:
            time.sleep(0.01)
        until()
        self._stop.set()
        for one in threads:
            one.join()

    def _keys(self, told: object) -> None:
        with Admin(told) as admin:
            while not self._stop.is_set():
                self.number += 1
                name = f"k{self.number}"
                try:
                    if admin.create_key(name):
                        self.keys.append(name)
                except httpx.TransportError:
                    time.sleep(0.01)

    def _policies(self, told: object) -> None:
        with Admin(told) as admin:
            while not self._stop.is_set():
                self.tried += 1
                try:
                    if admin.set_policy(self.tried):
                        self.policy = self.tried
                except httpx.TransportError:
                    time.sleep(0.01)

    def check(self, told: object) -> None:
        """All that was acknowledged is there."""
        with Admin(told) as admin:
            assert [name for name in self.keys if admin.key(name).status_code != 200] == []
            assert self.policy <= admin.policy() <= self.tried


def _rounds(count: int, state: Path, url: str, *, enclaves: bool) -> Writers:
    """Kill the command at a random moment, and before it one of its ``enclaves`` if so; so many times."""
    writers, chance, port = Writers(), random.Random(20261124), free_ports()
    for _ in range(count):
        with Served(SERVICES, state, "--database", url, port=port) as served:
            writers.check(served.told)

            def end_one(served: Served = served) -> None:
                time.sleep(chance.uniform(0.0, 0.5))
                os.kill(chance.choice(served.enclaves()), signal.SIGKILL)
                time.sleep(chance.uniform(0.0, 0.5))

            def end_all(served: Served = served) -> None:
                time.sleep(chance.uniform(0.0, 0.5))
                served.kill()

            if enclaves:
                writers.run(served.told, end_one)
            writers.run(served.told, end_all)
    with Served(SERVICES, state, "--database", url, port=port) as served:
        writers.check(served.told)
        assert served.stop() == 0
    return writers


def test_what_was_acknowledged_is_there_after_a_crash(state: Path, database_url: str) -> None:
    """The whole command killed: keys and policies that were acknowledged are all there."""
    writers = _rounds(1, state, database_url, enclaves=False)
    assert len(writers.keys) >= 3
    assert writers.policy >= 2


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_many_crashes(state: Path, database_url: str) -> None:
    """Twenty times an enclave killed, then the whole command."""
    writers = _rounds(20, state, database_url, enclaves=True)
    assert len(writers.keys) > 100
