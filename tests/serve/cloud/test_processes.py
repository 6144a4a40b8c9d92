"""Processes are known by more than their pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import msgspec

from kluis.serve.cloud import processes


def sleeper() -> subprocess.Popen[bytes]:
    """A process that does nothing."""
    return subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])


def test_a_process_is_found_until_it_ends() -> None:
    """A process is signalled and waited for; one that has ended, also an unreaped one, does not run."""
    with sleeper() as child:
        found = processes.find(child.pid)
        assert found is not None
        assert processes.runs(found)
        assert not processes.await_end(found, 0.0)
        assert processes.send(found, signal.SIGKILL)
        assert processes.await_end(found, 60.0)
        assert not processes.runs(found)
    assert processes.find(child.pid) is None
    assert not processes.send(found, signal.SIGKILL)


def test_another_process_with_its_pid_gets_no_signal() -> None:
    """A record whose pid now belongs to another process, or is of another boot, names no running process."""
    with sleeper() as child:
        found = processes.find(child.pid)
        assert found is not None
        for other in (
            msgspec.structs.replace(found, started=found.started - 1),
            msgspec.structs.replace(found, boot="00000000-0000-4000-8000-000000000000"),
        ):
            assert not processes.runs(other)
            assert not processes.send(other, signal.SIGKILL)
            assert processes.await_end(other, 0.0)
        assert child.poll() is None
        child.kill()


def test_this_process_is_found() -> None:
    """The own process has a start time and this boot's id."""
    me = processes.find(os.getpid())
    assert me is not None
    assert me.started > 0
    assert len(me.boot) == 36
