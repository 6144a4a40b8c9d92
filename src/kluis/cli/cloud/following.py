"""Read a log that another process writes: its last lines, and new ones as they come."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from kluis import files
from kluis.errors import UnavailableError

MOST_LINE: Final = 16 << 10
LOOK_SECONDS: Final = 0.1


class Last(NamedTuple):
    """The last lines of a log, and where they end, bytes."""

    lines: list[str]
    end: int


def last(path: Path, count: int) -> Last:
    """The last ``count`` lines; none if there is no log yet."""
    if not path.exists():
        return Last([], 0)
    lines: deque[str] = deque(maxlen=max(0, count))
    with os.fdopen(files.open_regular(path, os.O_RDONLY), "rb") as file:
        while line := file.readline(MOST_LINE):
            lines.append(_text(line))
        return Last(list(lines), file.tell())


def new(path: Path, before: Last, runs: Callable[[], bool]) -> Iterator[str]:
    """Lines after the last ones, also after the writer begins another file, until it has ended.

    Args:
        path: of the log.
        before: the lines that were read.
        runs: whether the writer runs.
    """
    file, rest = _open(path), b""
    try:
        if file is not None:
            file.seek(before.end)
        while True:
            ended = not runs()  # before the last look: what it wrote before its end is there then
            if file is None:
                file = _open(path)
            while file is not None and (part := file.readline(MOST_LINE)):
                rest += part
                if rest.endswith(b"\n") or len(rest) >= MOST_LINE:
                    yield _text(rest)
                    rest = b""
            if file is not None and _is_replaced(path, file.fileno()):
                file.close()
                file = None  # the next file has lines, even if the writer has ended
            elif ended:
                if rest:
                    yield _text(rest)
                return
            else:
                time.sleep(LOOK_SECONDS)
    finally:
        if file is not None:
            file.close()


def _open(path: Path) -> BinaryIO | None:
    try:
        return os.fdopen(files.open_regular(path, os.O_RDONLY), "rb")
    except UnavailableError:
        return None


def _is_replaced(path: Path, descriptor: int) -> bool:
    try:
        return not os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _text(line: bytes) -> str:
    return line.rstrip(b"\n").decode("utf-8", "replace")
