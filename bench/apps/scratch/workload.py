"""The measured work, the same file inside and outside."""

from __future__ import annotations

import os
import time


def write_and_read(folder: str, total: int, piece: int) -> list[float]:
    """Seconds to write ``total`` bytes in pieces to a file in ``folder``, and to read them back.

    The file stays, and the next run overwrites it: its pages then exist in both cases.
    """
    written, into = os.urandom(piece), bytearray(piece)
    path = f"{folder}/flow"
    with open(path, "r+b" if os.path.exists(path) else "w+b", buffering=0) as file:
        start = time.perf_counter()
        for _ in range(total // piece):
            file.write(written)
        between = time.perf_counter()
        file.seek(0)
        for _ in range(total // piece):
            file.readinto(into)
        end = time.perf_counter()
    if into != written:
        raise ValueError("what was read is not what was written")
    return [between - start, end - between]
