"""Processes by identity: a pid may be another process's later.

Spec: proc(5), ``/proc/pid/stat`` field 22, and ``/proc/sys/kernel/random/boot_id``; pidfd_open(2).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from kluis.tee.process import linux

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
# Of the fields after the name, which ends with the last parenthesis.
_STATE: Final = 0
_STARTED: Final = 19


class Process(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A process of this machine.

    Attributes:
        pid: its number.
        started: clock ticks between the machine's boot and its start.
        boot: the boot's id.
    """

    pid: int
    started: int
    boot: str


def find(pid: int) -> Process | None:
    """The running process with this pid; None if there is none, or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(") ")[2].split()
        boot = _BOOT.read_text("ascii").strip()
    except OSError:
        return None
    if len(fields) <= _STARTED or fields[_STATE] in "ZX":
        return None
    return Process(pid, int(fields[_STARTED]), boot)


def runs(process: Process) -> bool:
    """Whether it still runs: the same process, not another one with its pid."""
    return find(process.pid) == process


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal to this process, and to no other that has its pid now.

    Returns:
        Whether it still ran.
    """
    with _open(process) as descriptor:
        if descriptor is None:
            return False
        try:
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:  # it ended in between
            return False
        return True


def await_end(process: Process, seconds: float) -> bool:
    """Wait until it has ended, at most ``seconds``; return whether it has."""
    with _open(process) as descriptor:
        return descriptor is None or bool(linux.readable(descriptor, seconds=seconds))


@contextlib.contextmanager
def _open(process: Process) -> Iterator[int | None]:
    """A descriptor of the process; None if it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        # The descriptor is of whatever has the pid now: the start time tells whether that is the process.
        yield descriptor if runs(process) else None
    finally:
        os.close(descriptor)
