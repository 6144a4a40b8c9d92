"""A platform is stopped and started again at once; neither gets in the other's way."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.tee import places
from kluis.tee.image import manifest
from kluis.tee.image.build import interpreter
from kluis.tee.platform import start
from kluis.tee.platform.client import Platform

IDLE = (0.5, 5.0, 60.0)
"""Seconds until an idle platform ends: the longer ones where a machine is too slow to reach it before."""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> places.Places:
    """A home for a platform of only this test."""
    home = Path("/run" if os.geteuid() == 0 else tmp_path) / f"kluis-start-{os.getpid()}"
    monkeypatch.setenv("KLUIS_HOME", str(home))
    yield places.mine()
    start.stop(places.mine())
    shutil.rmtree(home, ignore_errors=True)


def test_restarted_at_once(own: places.Places) -> None:
    """The ending platform leaves the next one's socket untouched, and removes its own."""
    pids = set()
    for _ in range(4):
        start.start()
        pids.add(start.ask(own, {"op": "status"})["pid"])
        start.stop(own)
        assert not own.socket.exists()
    assert len(pids) == 4


def test_started_twice_is_one(own: places.Places) -> None:
    """A second start finds the first."""
    start.start()
    first = start.ask(own, {"op": "status"})["pid"]
    start.start()
    assert start.ask(own, {"op": "status"})["pid"] == first


def test_it_keeps_no_secret_of_its_starter(own: places.Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes outlive their starter, and whoever debugs them reads their environment."""
    monkeypatch.setenv("CLOUD_SECRET", "hunter2")
    start.start()
    pid = start.ask(own, {"op": "status"})["pid"]
    processes = []
    while pid != os.getpid() and pid > 1:
        processes.append(Path(f"/proc/{pid}"))
        pid = int(re.findall(r"^PPid:\s+(\d+)", (processes[-1] / "status").read_text(), re.MULTILINE)[0])
    assert len(processes) >= 3  # the daemon, its walls, and the spawner
    assert [each for each in processes if b"hunter2" in (each / "environ").read_bytes()] == []


def test_held_it_stays(own: places.Places) -> None:
    """A platform that ends when it is idle does not while a host holds it, and does after."""

    def attempt(idle_seconds: float) -> bool:
        platform = Platform(start.start(idle_seconds=idle_seconds))
        with contextlib.suppress(UnavailableError, OSError), platform.hold():
            time.sleep(idle_seconds + 1.5)
            assert own.socket.exists()
            return True
        return False

    assert any(attempt(idle_seconds) for idle_seconds in IDLE)
    end = time.monotonic() + 120
    while own.socket.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not own.socket.exists()


def test_started_to_stay_it_stays(own: places.Places) -> None:
    """A platform that another command started for itself does not end when idle after a request to stay."""

    def attempt(idle_seconds: float) -> bool:
        start.start(idle_seconds=idle_seconds)
        first = 0
        with contextlib.suppress(UnavailableError, OSError):
            first = start.ask(own, {"op": "status"})["pid"]
        start.start()
        if start.ask(own, {"op": "status"})["pid"] != first:
            start.stop(own)
            return False  # it had ended before the request to stay
        time.sleep(idle_seconds + 1.5)
        assert start.ask(own, {"op": "status"})["pid"] == first
        return True

    assert any(attempt(idle_seconds) for idle_seconds in IDLE)


def test_stopped_without_an_answer(own: places.Places) -> None:
    """A platform that hangs up on its last request is waited for until its socket is gone."""
    places.prepare(own, os.geteuid(), os.getegid())
    hung_up = threading.Event()

    def ends() -> None:
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.close()
        hung_up.set()
        time.sleep(0.2)
        own.socket.unlink()

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(own.socket))
        listener.listen(1)
        thread = threading.Thread(target=ends)
        thread.start()
        start.stop(own)
        assert hung_up.is_set()
        assert not own.socket.exists()
        thread.join()


def test_mark_is_the_files_own(tmp_path: Path) -> None:
    """A file put in another's place has another mark."""
    path = tmp_path / "it"
    assert places.mark(path) == []
    path.touch()
    first = places.mark(path)
    assert places.mark(path) == first
    path.unlink()
    path.write_bytes(b"another")
    assert places.mark(path) != first


@pytest.mark.skipif(os.geteuid() != 0, reason="a guest's first program is root")
def test_a_guests_platform_runs_on_the_guests_own_files(own: places.Places) -> None:
    """A fork of the first program starts it: what its interpreter executes is the file there, and no copy."""
    base = own.runtime.parent / "base"
    base.parent.mkdir(parents=True, exist_ok=True)
    interpreter.write(base, interpreter.base())
    code = "import pathlib, sys; from kluis.tee.platform import start; "
    code += "start.Starting(pathlib.Path(sys.argv[1])).finish()"
    subprocess.run([sys.executable, "-c", code, base], check=True, timeout=600)
    pid = start.ask(own, {"op": "status"})["pid"]
    launcher = os.stat(base / manifest.LAUNCHER)
    running = os.stat(f"/proc/{pid}/exe")
    assert (running.st_dev, running.st_ino) == (launcher.st_dev, launcher.st_ino)
