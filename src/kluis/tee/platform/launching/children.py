"""An enclave's processes for the spawner: bubblewrap, the guardian, and the guarded process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

from kluis.tee.platform.launching import remeasure
from kluis.tee.process import linux, native

STDERR_BOUND = 16 * 1024
LAST_READS = 32
LOST_SECONDS = 10.0
FORKED_SECONDS = 60.0
"""How long a running guardian may take to fork its child: only a stopped one takes this long."""


class Child:
    """An enclave: bubblewrap's process, its guardian's pidfd, and its output before Python ran.

    Attributes:
        enclave: its pid; 0 until it is known.
        tracer: the guardian's pid, which traces the enclave; 0 until it is known.
        launcher: the program that it must execute.
        guarded: whether the guardian keeps debuggers out, as of every enclave but a debug one.
        scratch: a descriptor of its scratch, for :func:`scratch.is_free`; -1 if it has none.
    """

    def __init__(
        self, pid: int, stderr: int, uid: int, launcher: Path = Path(), *, guarded: bool = True
    ) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.stderr = stderr
        self.uid = uid
        self.guardian = -1
        self.enclave = 0
        self.tracer = 0
        self.launcher = launcher
        self.guarded = guarded
        self.scratch = -1
        self.words = b""
        os.set_blocking(stderr, False)

    def read_words(self) -> bool:
        """Read the launcher's output, bounded, and close at its end; return whether there may be more."""
        if self.stderr < 0:
            return False
        try:
            data = os.read(self.stderr, 4096)
        except BlockingIOError:
            return False
        if not data:
            self.close_words()
        self.words = (self.words + data)[-STDERR_BOUND:]
        return bool(data)

    def last_words(self) -> None:
        """Read the available output and close: the other end may have been passed on, and outlive the
        child.
        """
        for _ in range(LAST_READS):
            if not self.read_words():
                break
        self.close_words()

    def close_words(self) -> None:
        """Close the descriptor, once."""
        if self.stderr >= 0:
            os.close(self.stderr)
            self.stderr = -1

    def kill(self) -> None:
        """End the enclave. Its guardian is the first process of the namespace, and ends last."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.guardian if self.guardian >= 0 else self.pidfd, signal.SIGKILL)

    def explain_loss(self) -> str:
        """Why the sandbox did not start."""
        linux.readable(self.pidfd, seconds=LOST_SECONDS)
        self.last_words()
        return self.words.decode("utf-8", "replace").strip() or "the sandbox did not start"

    def await_enclave(self, guardian: int) -> None:
        """Wait for the only child of a guardian's pid; there is none if the guardian ended."""
        self.tracer = guardian
        if self.guardian < 0:  # it ended before its pidfd was opened; its pid may be another process's
            return
        until = time.monotonic() + FORKED_SECONDS
        ended = False
        while not ended and not self.enclave and time.monotonic() < until:
            ended = bool(linux.readable(self.guardian, seconds=0.001))
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split()
                self.enclave = int(children[0]) if children else 0

    def is_guarded(self) -> bool:
        """Whether its guardian lives and traces it.

        So its pid is not another process's: the guardian traces only its own child, and ends with it.

        Raises:
            OSError: it has ended.
        """
        lines = Path(f"/proc/{self.enclave}/status").read_text().splitlines()
        tracer = next(int(line.split()[1]) for line in lines if line.startswith("TracerPid:"))
        lives = self.guardian >= 0 and not linux.readable(self.guardian, seconds=0)
        return lives and tracer == self.tracer

    def executes_launcher(self) -> bool:
        """Whether the enclave executes its layer's launcher, and that file is the measured one.

        Raises:
            OSError: it has ended.
        """
        program = Path(f"/proc/{self.enclave}/exe")
        return program.samefile(self.launcher) and remeasure.digest(program) == native.runtime().launcher


def guardian_pid(info: int) -> int:
    """The guardian's pid on this machine, from bubblewrap's information pipe; 0 if it failed."""
    with open(info, "rb") as pipe:
        text = pipe.read(4096)
    return int(json.loads(text)["child-pid"]) if text.strip() else 0
