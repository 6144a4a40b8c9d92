"""What attackers do: tools of this machine, and the calls that those tools make."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.tee.doctor import attempts
from tests.adversary.victim_secret import secret_of

NOBODY = 65534
SOON = 120.0
"""Seconds that a process's end may take on a loaded machine; one that nothing ends lives on for good."""
DAEMON = b"kluis.tee.platform.entry"
_libc = ctypes.CDLL(None, use_errno=True)


def copies(pid: int, seed: str) -> tuple[int, int]:
    """Scan everything /proc/PID/mem gives: bytes read, copies of the secret found."""
    reading = attempts.by_memory_file(pid, secret_of(seed))
    return reading.read_bytes, reading.copies


def tool(*line: str, timeout: float = 300) -> tuple[int, str]:
    """Run a tool; its exit code and all it said."""
    if shutil.which(line[0]) is None:
        pytest.skip(f"{line[0]} is not installed")
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=timeout, check=False, errors="replace"
    )
    return done.returncode, done.stdout + done.stderr


def as_user(uid: int, code: str, *arguments: str) -> str:
    """Run Python code as another user; what it printed."""
    line = [
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "/usr/bin/python3",
        "-I",
        "-c",
        code,
    ]
    done = subprocess.run([*line, *arguments], capture_output=True, text=True, timeout=300, check=False)
    return done.stdout + done.stderr


def status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def guardian_of(pid: int) -> int:
    """The pid of the tracer."""
    return int(status(pid)["TracerPid"])


def spawner_of(daemon: int) -> int:
    """The spawner of the platform whose daemon has this pid."""
    sandbox = int(status(guardian_of(daemon))["PPid"])
    return int(status(sandbox)["PPid"])


def launchers(spawner: int) -> Iterator[int]:
    """The current enclaves of one platform, from the first instruction of their guardian's child on.

    The platform itself was started in the same way, and is not among them.
    """
    for sandbox in children(spawner):
        for guardian in children(sandbox):
            yield from (pid for pid in children(guardian) if DAEMON not in _line(Path(f"/proc/{pid}")))


def children(pid: int) -> list[int]:
    """The processes that a process started and that are not gone."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def gone_within(pid: int, seconds: float) -> bool:
    """Wait for a process to be gone, or a zombie."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if status(pid)["State"].startswith(("Z", "X")):
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.002)
    return False


def steal(pid: int, descriptor: int) -> int:
    """Duplicate another process's descriptor; a descriptor of ours."""
    pidfd = os.pidfd_open(pid)
    try:
        stolen = _libc.syscall(438, pidfd, descriptor, 0)
        if stolen < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return int(stolen)
    finally:
        os.close(pidfd)


SUSPEND_SECCOMP = 1 << 21
"""PTRACE_O_SUSPEND_SECCOMP: the tracee's filters do not apply while it is traced."""


def seize(pid: int, options: int) -> int:
    """Become the tracer of a process (PTRACE_SEIZE) with options; 0, or the errno of the refusal."""
    arguments = (ctypes.c_long(0x4206), ctypes.c_long(pid), ctypes.c_long(0), ctypes.c_long(options))
    got = _libc.syscall(ctypes.c_long(101), *arguments)
    return 0 if got == 0 else ctypes.get_errno()


def writable_twin(library: str) -> Path:
    """A file of an enclave through the spawner's own mount of the layers, which is not read-only."""
    wanted = os.stat(library)
    inside = library.partition("/root/k/")[2].partition("/")[2]
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or b"kluis.tee.platform.launching.main" not in _line(process):
            continue
        with contextlib.suppress(OSError):  # another platform's, which ends meanwhile
            for layers in (process / "root" / "run").glob("kluis*/**/layers"):
                for candidate in layers.glob(f"*/{inside}"):
                    found = candidate.stat()
                    if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                        return candidate
    raise LookupError("the spawner's layers")


def _line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


MOUNT_OVER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    got = libc.syscall(ctypes.c_long(number), *arguments)
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(number))
    return got
here = ctypes.c_long(-100)
tree = call(428, here, sys.argv[2].encode(), ctypes.c_uint(1))  # open_tree, a clone
space = os.open(f"/proc/{sys.argv[1]}/ns/mnt", os.O_RDONLY)
call(308, ctypes.c_long(space), ctypes.c_long(0x20000))  # setns
call(429, ctypes.c_long(tree), b"", here, sys.argv[3].encode(), ctypes.c_uint(4))  # move_mount
"""


def mount_over(pid: int, file: Path, target: str) -> None:
    """Mount a file of this machine over one that an enclave sees."""
    subprocess.run([sys.executable, "-I", "-c", MOUNT_OVER, str(pid), str(file), target], check=True)


def writable_anonymous(pid: int) -> list[str]:
    """Lines of the map that are private, writable and of no file."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line for line in lines if re.match(r"\S+ .w.p \S+ 00:00 0", line)]


PYTHON = sys.executable
