"""Register an interpreter for a program of the platform as root, in a new user namespace, and launch.

    python interpreting.py IMAGE INTERPRETER PLACE PROGRAM HOW

PROGRAM is launcher, guardian or bwrap. HOW is root's next step: nothing; ``continue``, let the interpreter
execute the launcher; a message in hex, the same while the guardian is stopped, and send it for the enclave.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from kluis.formats.kluis import channel
from kluis.host import load
from kluis.tee import places
from kluis.tee.platform import start
from kluis.tee.process import native

LACKS = frozenset({"secret-memory"})
"""Which a namespace of users may not have, and which is not the matter."""
PLATFORM_FD, NAMED_FD, WORD_FD = 5, 18, 30
SOON = 120.0
_libc = ctypes.CDLL(None, use_errno=True)


def first_bytes(program: str, image: str) -> bytes:
    """The first bytes of a program that every launch executes."""
    with load(image, insecure_allow_missing=LACKS) as enclave:
        files = {
            "launcher": Path(f"/proc/{enclave.pid}/exe"),
            "guardian": native.guardian(),
            "bwrap": Path(shutil.which("bwrap") or ""),
        }
        return files[program].read_bytes()[:64]


def executes(pid: int, program: str) -> bool:
    """Whether a process is there and executes a program."""
    try:
        return Path(f"/proc/{pid}/exe").samefile(program)
    except OSError:
        return False


def steal(pid: int, descriptor: int) -> int:
    """Duplicate another process's descriptor (pidfd_getfd): a descriptor of ours."""
    stolen = int(_libc.syscall(438, os.pidfd_open(pid), descriptor, 0))
    if stolen < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return stolen


def running(interpreter: str) -> int:
    """Wait for a process that executes the interpreter: its pid."""
    until = time.monotonic() + SOON
    while time.monotonic() < until:
        pids = [int(process.name) for process in Path("/proc").glob("[0-9]*")]
        if found := [pid for pid in pids if executes(pid, interpreter)]:
            return found[0]
    raise LookupError(interpreter)


def execute_launcher(interpreter: str, entry: Path, hello: bytes) -> None:
    """Have the interpreter execute the launcher; then send the hello, with the socket that it listened on."""
    pid = running(interpreter)
    while not Path(f"/proc/{pid}/fd/{WORD_FD}").is_symlink():
        time.sleep(0.001)
    platform, named = (steal(pid, number) for number in (PLATFORM_FD, NAMED_FD))
    entry.write_text("-1\n")
    guardian = int(Path(f"/proc/{pid}/status").read_text().partition("TracerPid:")[2].split()[0])
    if hello:
        os.kill(guardian, signal.SIGSTOP)
    os.write(steal(pid, WORD_FD), (1).to_bytes(8, "little"))
    while executes(pid, interpreter):
        time.sleep(0.001)
    if not hello:
        return
    try:
        with socket.socket(fileno=platform) as end:
            end.send(channel.READY)
            if end.recv(channel.MAX_FRAME):
                print("it was challenged")
                socket.send_fds(end, [hello], [named])
                if end.recv(channel.MAX_FRAME):
                    print("it was answered")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(guardian, signal.SIGKILL)


def main(image: str, interpreter: str, place: Path, program: str, how: str) -> None:
    """Register, launch, print."""
    subprocess.run(["mount", "-t", "binfmt_misc", "none", str(place)], check=True)
    try:
        start.start()
        magic = "".join(f"\\x{byte:02x}" for byte in first_bytes(program, image))
        (place / "register").write_text(f":own:M::{magic}::{interpreter}:F\n")
        hello = b"" if how == "continue" else bytes.fromhex(how)
        root = threading.Thread(target=execute_launcher, args=(interpreter, place / "own", hello))
        if how:
            root.start()
        try:
            load(image, insecure_allow_missing=LACKS).close()
            print("launched")
        except Exception as error:
            print(error)
        if how:
            root.join()
    finally:
        start.stop(places.mine())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4], sys.argv[5])
