"""A machine's serial console: its last output, bounded, read by a thread so that the guest never waits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from kluis.errors import foreign

LOG_BYTES = 256 << 10
CHUNK_BYTES = 16 << 10
PANIC = "Kernel panic"
MOST_WORDS = 1000


class Console:
    """The host's end of the serial line."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._log = b""
        self._more = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True, name="kluis-console")
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                chunk = self._connection.recv(CHUNK_BYTES)
            except OSError:
                chunk = b""
            with self._more:
                self._log = (self._log + chunk)[-LOG_BYTES:]
                self._ended = not chunk
                self._more.notify_all()
            if not chunk:
                self._connection.close()
                return

    def text(self) -> str:
        """Its last 256 KiB, untrusted."""
        with self._more:
            return self._log.decode("utf-8", "replace").replace("\r", "")

    def await_text(self, accepts: Callable[[str], bool], seconds: float) -> bool:
        """Wait until ``accepts`` accepts the text, or the line ends, or ``seconds`` pass; return which."""
        with self._more:
            self._more.wait_for(
                lambda: self._ended or accepts(self._log.decode("utf-8", "replace")), timeout=seconds
            )
            return accepts(self._log.decode("utf-8", "replace"))

    def type(self, data: bytes) -> None:
        """Send bytes to the guest's line.

        Raises:
            OSError: the machine has ended.
        """
        self._connection.sendall(data)

    def join(self, seconds: float) -> None:
        """Wait for the end of the output."""
        self._reader.join(seconds)

    def last_words(self) -> str:
        """The line about a panic if there is one, else the last two lines; empty if there was no output.

        The guest's first program has the last line, which states how Kluis ended. The reason is before it.
        """
        lines = [line.strip() for line in self.text().splitlines() if line.strip()]
        panic = next((line for line in reversed(lines) if PANIC in line), None)
        return foreign(panic or "; ".join(lines[-2:]), MOST_WORDS)
