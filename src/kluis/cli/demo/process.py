"""Attackers on the machine where the enclave runs: other users, the host, root and root's ordinary tools.

The enclave has opened both tables and has them in memory during these attacks.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from kluis.cli.demo.attempt import Attempt, line_with, tool
from kluis.cli.demo.cohort import MARK
from kluis.cli.demo.stage import Stage, plain_process
from kluis.errors import KluisError
from kluis.host.proxy import EnclaveProxy
from kluis.tee.doctor import attempts as ways

NOBODY = 65534
PLATFORM_DESCRIPTOR = 5  # of the enclave: its end of the channel to the platform
_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)
_OTHER = """
import os, sys
pid = int(sys.argv[1])
for name in ("mem", "maps", "environ"):
    try:
        open(f"/proc/{pid}/{name}", "rb").read(1)
        print("read", name)
    except OSError as error:
        print(f"{name}: {error.strerror}")
try:
    os.kill(pid, 0)
    print("signalled")
except OSError as error:
    print(f"kill: {error.strerror}")
"""


def attempts(stage: Stage, enclave: EnclaveProxy) -> Iterator[Attempt]:
    """Every attempt of these attackers, one by one; the last one ends the enclave."""
    pid = enclave.pid
    yield another_user(pid)
    if enclave.level != "process-user":  # there, it is among the limits
        yield host_application(pid)
    if os.geteuid() != 0:
        yield Attempt("root", "gdb, gcore, strace, py-spy, a scan", "needs root: sudo make demo", None)
        return
    yield gdb(pid)
    yield gcore(stage, pid)
    yield strace(pid)
    yield py_spy(pid)
    yield memory_calls(pid)
    yield scan(stage, pid)
    yield stolen_descriptor(enclave)


def another_user(pid: int) -> Attempt:
    """Another user of the machine opens the enclave's memory, map and environment."""
    who, tried = "another user", "opens its memory, map and environment"
    if os.geteuid() != 0:
        return Attempt(who, tried, "becoming another user needs root", None)
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    line = [
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        python,
        "-I",
        "-c",
        _OTHER,
        str(pid),
    ]

    def judge(code: int, words: str) -> tuple[bool, str]:
        got = [each for each in words.splitlines() if each.startswith(("read", "signalled"))]
        return code == 0 and not got, "; ".join(got) or line_with(words, "denied")

    return tool(who, tried, line, judge)


def host_application(pid: int) -> Attempt:
    """The program that started the enclave, which is this one, reads it."""
    reading = ways.by_memory_file(pid, MARK.encode())
    refused = reading.copies == 0
    got = "nothing" if not reading.read_bytes else f"{reading.read_bytes / 1e6:.0f} MB"
    return Attempt(
        "host program",
        "this program, which started the enclave, reads its memory",
        f"{got} read, patients' pseudonyms in it: {reading.copies:,}",
        refused,
    )


def gdb(pid: int) -> Attempt:
    """A debugger."""
    line = ["gdb", "-batch", "-nx", "-p", str(pid), "-ex", "info threads"]
    return tool(
        "root",
        "gdb, a debugger",
        line,
        lambda _, words: ("not permitted" in words, line_with(words, "ptrace")),
    )


def gcore(stage: Stage, pid: int) -> Attempt:
    """A core dump of the running process."""
    into = stage.folder / "core"

    def judge(_: int, words: str) -> tuple[bool, str]:
        written = list(into.parent.glob("core.*"))
        return not written, "no core: " + line_with(words, "not permitted", "failed")

    return tool("root", "gcore, a dump of its memory", ["gcore", "-o", str(into), str(pid)], judge)


def strace(pid: int) -> Attempt:
    """Its system calls."""
    line = ["strace", "-f", "-p", str(pid)]
    return tool(
        "root",
        "strace, its system calls",
        line,
        lambda _, words: ("not permitted" in words, line_with(words, "ptrace")),
    )


def py_spy(pid: int) -> Attempt:
    """Its Python stacks and locals."""
    beside = Path(sys.executable).parent / "py-spy"
    program = str(beside) if beside.exists() else "py-spy"
    line = [program, "dump", "--locals", "--nonblocking", "--pid", str(pid)]
    return tool(
        "root",
        "py-spy, its Python stack and variables",
        line,
        lambda code, words: (code != 0, line_with(words, "error", "failed")),
    )


def memory_calls(pid: int) -> Attempt:
    """process_vm_readv, which needs no file and no debugger."""
    reading = ways.by_memory_call(pid, MARK.encode())
    words = f"{reading.copies} patients; {reading.refused or 'nothing refused'}"
    return Attempt("root", "process_vm_readv, reading without a debugger", words, reading.copies == 0)


def scan(stage: Stage, pid: int) -> Attempt:
    """Search /proc/PID/mem, and that of an ordinary Python process with the same table."""
    inside = ways.by_memory_file(pid, MARK.encode())
    outside = plain_process(stage, lambda other: ways.by_memory_file(other, MARK.encode()).copies)
    words = f"pseudonyms begin {inside.copies} times in {inside.read_bytes / 1e6:.0f} MB; "
    words += f"in an ordinary Python that holds the same table {outside:,} times"
    return Attempt("root", "scans all of its memory for the patients", words, inside.copies == 0 < outside)


def stolen_descriptor(enclave: EnclaveProxy) -> Attempt:
    """Root duplicates the enclave's end of its channel, and requests a quote from the platform in its
    name.
    """
    who, tried = "root", "steals its channel to the platform and requests a quote"
    pidfd = os.pidfd_open(enclave.pid)
    try:
        stolen = int(_libc.syscall(_PIDFD_GETFD, pidfd, PLATFORM_DESCRIPTOR, 0))
    finally:
        os.close(pidfd)
    if stolen < 0:
        return Attempt(who, tried, os.strerror(ctypes.get_errno()).lower(), True)
    got = b""
    with socket.socket(fileno=stolen) as end, contextlib.suppress(OSError):
        end.settimeout(2)
        end.send(b"\x92\x01" + b"a quote, please, over a key of mine".ljust(64, b"\0"))
        got = end.recv(65536)
    try:
        enclave.evidence(bytes(32))
        words = "no answer; the enclave goes on"
    except KluisError:
        words = "no answer: not sealed with the channel's key; the enclave ended itself"
    return Attempt(who, tried, words if not got else f"{len(got)} bytes", not got)
