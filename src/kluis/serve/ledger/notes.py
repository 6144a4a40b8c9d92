"""Lines for the operator about a log: why it takes no entries, and which bytes were put aside."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from kluis import files
from kluis.errors import UnavailableError


class Notes:
    """Lines about one log, each once.

    Args:
        folder: of the log.
        report: prints lines.
    """

    def __init__(self, folder: Path, report: Callable[[Iterable[str]], None]) -> None:
        self._folder = folder
        self._report = report
        self._failing = ""
        self._aside: list[str] = []

    def failed(self, error: OSError | UnavailableError) -> None:
        """Report why entries are not written, unless it was: the same batch is tried again and again."""
        why = error.message if isinstance(error, UnavailableError) else error.strerror or str(error)
        if why != self._failing:
            self._failing = why
            self._report([f"ledger: {self._folder}: entries cannot be written: {why} (hint: see its disk)"])

    def written(self) -> None:
        """Report that entries are written again, if they were not."""
        if self._failing:
            self._failing = ""
            self._report([f"ledger: {self._folder}: entries are written again"])

    def put_aside(self, name: str, data: bytes) -> None:
        """Write bytes that are not part of the log to a file next to its folder.

        Raises:
            OSError: it cannot be written.
        """
        torn = self._folder.with_name(f"{self._folder.name}.torn")
        torn.mkdir(mode=0o700, exist_ok=True)
        files.write(torn / name, data)
        self._aside.append(f"{len(data)} bytes that are not part of it are in {torn / name}")

    def opened(self, head: bytes) -> None:
        """Report what was put aside while the log was opened.

        Args:
            head: of the log, 40 bytes.
        """
        last = int.from_bytes(head[:8], "big")
        if self._aside:
            self._report([f"ledger: {self._folder}: ends with entry {last}; {each}" for each in self._aside])
            self._aside.clear()
