"""The spawner: what it started and did not answer for does not go on, and no order ends it."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import AuthenticityError
from kluis.tee.platform.launching import children, remeasure, spawner

ORDER = {"op": "launch", "id": "one", "layers": [["ab" * 32, "/k/app"]]}


@pytest.fixture
def spawning(tmp_path: Path) -> Iterator[spawner.Spawner]:
    """A spawner that holds no layer, and starts a process that never ends in the place of an enclave."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    found = spawner.Spawner(mine, tmp_path, own_uids=False)
    try:
        yield found
    finally:
        mine.close()
        theirs.close()
        for child in found.children.values():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            os.close(child.pidfd)
            child.close_words()


def test_what_could_not_be_measured_ends(spawning: spawner.Spawner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers of a launch cannot be measured: what was started meanwhile ends, since nobody counts it."""

    def begin(order: dict[str, Any], _descriptors: list[int]) -> int:
        reading, writing = os.pipe()
        pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
        os.close(writing)
        spawning.children[order["id"]] = children.Child(pid, reading, 0)
        return os.open(os.devnull, os.O_RDONLY)

    def found(child: children.Child, info: int) -> dict[str, Any]:
        os.close(info)
        return {"guardian": child.pid, "enclave": child.pid, "uid": 0}

    monkeypatch.setattr(spawning, "_begin", begin)
    monkeypatch.setattr(spawning, "_find_started", found)
    spawning._files["ab" * 32] = (remeasure.File("data", "cd" * 32, 1),)  # of a folder that is not there
    answer = spawning._launch(ORDER, [])

    assert set(answer) == {"error"}
    ended = os.waitid(os.P_PID, spawning.children["one"].pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert ended.si_status == signal.SIGKILL


def test_a_layer_that_another_launch_found_changed(spawning: spawner.Spawner) -> None:
    """Two launches held it, and the first one's answer discarded it: the second gets the same answer."""
    spawning._files["ab" * 32] = (remeasure.File("data", "cd" * 32, 1),)
    (spawning.layers / ("ab" * 32)).mkdir()

    assert spawning._find_changed(ORDER["layers"]) == {"changed": "data", "layer": "ab" * 32}  # type: ignore[arg-type]
    assert spawning._find_changed(ORDER["layers"]) == {"changed": "/k/app", "layer": "ab" * 32}  # type: ignore[arg-type]


def test_a_changed_layer_goes_with_the_last_enclave_that_ran_from_it(spawning: spawner.Spawner) -> None:
    """It is set aside while enclaves run, and takes no memory afterwards."""
    for name in ("one", "two"):
        reading, writing = os.pipe()
        os.close(writing)
        pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
        spawning.children[name] = children.Child(pid, reading, 0)
    spawning._files["ab" * 32] = (remeasure.File("data", "cd" * 32, 1),)
    layer = spawning.layers / ("ab" * 32)
    layer.mkdir()
    (layer / "data").write_bytes(b"changed")
    assert spawning._find_changed(ORDER["layers"]) is not None  # type: ignore[arg-type]
    (aside,) = spawning.layers.iterdir()
    assert (aside / "data").read_bytes() == b"changed"

    for name, left in (("one", [aside]), ("two", [])):
        os.kill(spawning.children[name].pid, signal.SIGKILL)
        spawning._bury(name)
        assert list(spawning.layers.iterdir()) == left


def test_a_layer_that_cannot_be_unpacked_leaves_nothing(spawning: spawner.Spawner) -> None:
    """Where memory ends within a layer, what was written of it goes: nobody would count it, or drop it."""
    index = json.dumps(
        [
            {"mode": 0o444, "offset": 0, "path": "a/first", "sha256": "00" * 32, "size": 8},
            {"mode": 0o444, "offset": 4096, "path": "b/second", "sha256": "00" * 32, "size": 1 << 20},
        ]
    ).encode()
    order = {"op": "hold", "digest": "ab" * 32, "data_at": 0, "index_at": 16, "index_size": len(index)}
    blob = os.memfd_create("layer")
    try:
        os.pwrite(blob, index, 16)
        with pytest.raises(OSError, match="the memory file is shorter than its index"):
            spawning._hold(order, [blob])
    finally:
        os.close(blob)
    assert list(spawning.layers.iterdir()) == []
    assert spawning._files == {}


def test_a_layer_whose_data_did_not_come(spawning: spawner.Spawner) -> None:
    """Another launch found the base layer changed, since its data was left out: nothing of it is unpacked."""
    index = json.dumps([{"mode": 0o444, "offset": 0, "path": "a", "sha256": "00" * 32, "size": 8}]).encode()
    order = {"op": "hold", "digest": "ab" * 32, "data_at": None, "index_at": 0, "index_size": len(index)}
    laid = spawning.layers / ("ab" * 32)
    laid.mkdir()
    blob = os.memfd_create("layer")
    try:
        os.write(blob, index)
        assert spawning._hold(order, [blob]) == {}
        spawning._forget("ab" * 32)
        laid.rmdir()
        with pytest.raises(OSError, match="its data did not come"):
            spawning._hold(order, [blob])
    finally:
        os.close(blob)
    assert list(spawning.layers.iterdir()) == []
    assert spawning._files == {}


def test_what_cannot_be_watched_ends(
    spawning: spawner.Spawner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor is left to see its end by: the process is ended and reaped, and no descriptor stays."""
    started: list[int] = []

    def refused(pid: int) -> int:
        started.append(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", refused)
    spawning.bwrap = str(tmp_path / "bwrap")
    Path(spawning.bwrap).write_text("#!/bin/sh\nexec sleep 1000\n")
    Path(spawning.bwrap).chmod(0o755)
    numbers = dict.fromkeys(("heap", "region", "threads"), 1)
    order = {**ORDER, **numbers, "paths": [], "without": "", "options": "", "environment": []}
    before = os.listdir("/proc/self/fd")
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Too many open files"):
            spawning._begin(order, [null] * 5)
    finally:
        os.close(null)

    assert len(started) == 1
    assert not Path(f"/proc/{started[0]}").exists()
    assert os.listdir("/proc/self/fd") == before
    assert spawning.children == {}


@pytest.mark.parametrize("error", [MemoryError(), OverflowError(), AuthenticityError("changed")])
def test_a_failed_order_ends_nobody(
    spawning: spawner.Spawner, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """An order that fails is answered; the spawner's end would be every enclave's."""

    def fails(*_: object) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(spawning, "_begin", fails)
    monkeypatch.setattr(spawning, "_find_changed", fails)

    assert set(spawning._launch(ORDER, [])) == {"error"}


LATE = "import os, time; time.sleep(3); os.fork() or os.execlp('sleep', 'sleep', '1000'); time.sleep(1000)"
ENDS = "import time; time.sleep(0.1)"


@pytest.mark.parametrize(("program", "forks"), [(LATE, True), (ENDS, False)])
def test_a_guardian_is_waited_for(program: str, forks: bool) -> None:
    """On a loaded machine it takes seconds to have its child; one that ended has none."""
    reading, writing = os.pipe()
    os.close(writing)
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", program]) as guardian:
        child = children.Child(guardian.pid, reading, 0)
        child.guardian = child.pidfd
        began = time.monotonic()
        try:
            child.await_enclave(guardian.pid)
            assert bool(child.enclave) == forks
            assert time.monotonic() - began < children.FORKED_SECONDS  # its end was seen, not only the bound
        finally:
            if child.enclave:
                os.kill(child.enclave, signal.SIGKILL)
            guardian.kill()
            child.close_words()
            os.close(child.pidfd)


def test_a_process_that_its_guardian_does_not_trace() -> None:
    """Another process with an enclave's pid does not count as guarded, nor one whose guardian ended."""
    reading, writing = os.pipe()
    os.close(writing)
    with (
        subprocess.Popen(["/bin/sleep", "1000"]) as enclave,
        subprocess.Popen(["/bin/sleep", "1"]) as guardian,
    ):
        child = children.Child(guardian.pid, reading, 0)
        child.guardian, child.tracer, child.enclave = child.pidfd, guardian.pid, enclave.pid
        try:
            assert not child.is_guarded()
            child.tracer = 0  # so that only the guardian's end counts
            assert child.is_guarded()
            guardian.kill()
            guardian.wait()
            assert not child.is_guarded()
        finally:
            enclave.kill()
            child.close_words()
            os.close(child.pidfd)


def test_what_is_not_guarded_ends(spawning: spawner.Spawner) -> None:
    """A process that its guardian does not trace gets no session, whatever it executes."""
    reading, writing = os.pipe()
    os.close(writing)
    child = children.Child(os.posix_spawn("/bin/sleep", ["sleep", "1000"], {}), reading, 0)
    child.guardian, child.tracer, child.enclave = child.pidfd, os.getpid(), child.pid
    child.launcher = Path("/bin/sleep").resolve()
    spawning.children["one"] = child
    with pytest.raises(AuthenticityError, match=r"^the enclave is not its guardian's$"):
        spawning._check({"id": "one"}, [])

    ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert ended.si_status == signal.SIGKILL


def test_a_guardian_that_ended_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ended before its pidfd was opened has no child, and keeps no other enclave waiting."""
    reading, writing = os.pipe()
    os.close(writing)
    with subprocess.Popen(["/bin/true"]) as sandbox, subprocess.Popen(["/bin/true"]) as guardian:
        child = children.Child(sandbox.pid, reading, 0)
        guardian.wait()
        with pytest.raises(ProcessLookupError):
            os.pidfd_open(guardian.pid)
        monkeypatch.setattr(time, "monotonic", lambda: pytest.fail("it was waited for"))
        child.await_enclave(guardian.pid)
        monkeypatch.undo()
        os.close(child.pidfd)
        child.close_words()

    assert child.enclave == 0
