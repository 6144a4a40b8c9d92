"""Unpack a measured layer from a sealed memory file, and delete one. Standard library only."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any


def unpack(folder: Path, entries: list[dict[str, Any]], blob: int, start: int) -> None:
    """Write the files of a layer into a new folder.

    Args:
        folder: does not exist yet.
        entries: the layer's index, parsed.
        blob: a descriptor of a memory file with the layer's data.
        start: where its data begins.

    Raises:
        OSError: there is no room for them, or the memory file is shorter than the index states.
    """
    folder.mkdir()
    made = {folder}
    for entry in entries:
        target = folder / entry["path"]
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, int(entry["mode"]))
        try:
            at, left = start + int(entry["offset"]), int(entry["size"])
            while left:
                sent = os.sendfile(out, blob, at, left)
                if not sent:
                    raise OSError("layer: the memory file is shorter than its index")
                at, left = at + sent, left - sent
        finally:
            os.close(out)


def remove(folder: Path) -> None:
    """Delete an unpacked layer that nothing uses, and free its memory.

    An enclave can pass the descriptor of a file to its host, who keeps it open: so each is emptied first.

    Raises:
        OSError: there is no such folder, or a part of it cannot be deleted.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                flags = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                os.close(os.open(f"{parent}/{name}", flags))
    shutil.rmtree(folder)
