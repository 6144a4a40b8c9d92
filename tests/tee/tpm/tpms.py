"""Software TPMs: real TPMs of TCG's reference code, each with its own state and its own sockets."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from kluis.tee.tpm.tpm import Tpm
from kluis.tee.tpm.transport import Transport

NEEDED = ("swtpm", "tpm2")
MISSING = [name for name in NEEDED if not shutil.which(name)]


class Software:
    """One software TPM: started over its folder of state, as often as a test wants."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.state.mkdir(parents=True, exist_ok=True)
        self.commands = folder / "tpm"
        self.control = folder / "tpm.ctrl"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        line = [
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state},mode=0600",
            "--server", f"type=unixio,path={self.commands}", "--ctrl", f"type=unixio,path={self.control}",
            "--flags", "startup-clear,not-need-init",
        ]  # fmt: skip
        self._process = subprocess.Popen(line, stdin=subprocess.DEVNULL)
        while not (self.commands.exists() and self.control.exists()):
            assert self._process.poll() is None, "swtpm ended"
            time.sleep(0.01)

    def stop(self) -> None:
        """End it, as a machine that loses its power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for path in (self.commands, self.control):
            path.unlink(missing_ok=True)

    def restart(self) -> None:
        """Reset it: its PCRs are as at first, its NV indices and seeds are kept."""
        self.stop()
        self.start()

    def tpm(self) -> Tpm:
        """It as our drivers see it. swtpm serves one connection at a time: end this one first."""
        assert self._process is not None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        for _ in range(100):
            try:
                connection.connect(str(self.commands))
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
        return Tpm(Transport(connection.detach()))

    def tools(self, *line: str, folder: Path) -> str:
        """Run one of tpm2-tools on it."""
        environment = {**os.environ, "TPM2TOOLS_TCTI": f"swtpm:path={self.commands}"}
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Software]:
    """A software TPM with new state."""
    software = Software(folder)
    software.start()
    try:
        yield software
    finally:
        software.stop()
