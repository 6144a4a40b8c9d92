"""A disk that has what was flushed, and nothing else: for tests of crashes and of failing disks.

It follows a log's calls of the operating system. A block that was written is in memory until its file is
flushed, and a name until its folder is. A flush that fails loses the blocks, and the next one reports
success, as file systems do.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

BLOCK = 4096


class PowerOff(BaseException):
    """The machine ends here."""


class Disk:
    """Follows the calls of one process.

    Attributes:
        steps: calls so far.

    Args:
        patch: of the test.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begin()
        self._real = {name: getattr(os, name) for name in ("pwrite", "fdatasync", "fsync", "ftruncate")}
        self._rename = Path.rename
        for name in self._real:
            patch.setattr(os, name, getattr(self, f"_{name}"))
        disk = self

        def rename(path: Path, to: Path) -> Path:
            disk._step()
            return disk._rename(path, to)

        patch.setattr(Path, "rename", rename)

    def begin(self, at: int = 0, ends: int = 0, *, fails: bool = False) -> None:
        """Forget all files, and count from here.

        Args:
            at: the step that is disturbed; 0: none is.
            ends: the step before which the machine ends, whatever failed before; 0: it does not.
            fails: whether step ``at`` fails, once; else the machine ends before it.
        """
        self.steps, self._at, self._ends, self._fails = 0, at, ends, fails
        self._blocks: dict[int, dict[int, bytes]] = {}
        self._sizes: dict[int, int] = {}
        self._dirty: dict[int, set[int]] = {}
        self._names: dict[Path, dict[str, int]] = {}

    def calm(self) -> None:
        """Disturb nothing from here on."""
        self._at = self._ends = 0

    def left(self, folder: Path, to: Path) -> None:
        """Write what the disk has of a folder to another one."""
        to.mkdir()
        for name, inode in self._names.get(folder, {}).items():
            if (folder / name).is_dir():
                self.left(folder / name, to / name)
                continue
            data = bytearray(self._sizes.get(inode, 0))
            for number, block in self._blocks.get(inode, {}).items():
                part = block[: max(0, len(data) - number * BLOCK)]
                data[number * BLOCK : number * BLOCK + len(part)] = part
            (to / name).write_bytes(data)
        return to

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self._ends:
            raise PowerOff
        if self.steps == self._at:
            if not self._fails:
                raise PowerOff
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _pwrite(self, file: int, data: Any, at: int) -> int:
        self._step()
        count: int = self._real["pwrite"](file, data, at)
        touched = range(at // BLOCK, -(-(at + count) // BLOCK))
        self._dirty.setdefault(os.fstat(file).st_ino, set()).update(touched)
        return count

    def _ftruncate(self, file: int, size: int) -> None:
        self._step()
        self._real["ftruncate"](file, size)
        self._dirty.setdefault(os.fstat(file).st_ino, set()).add(size // BLOCK)

    def _fdatasync(self, file: int) -> None:
        self._fsync(file)

    def _fsync(self, file: int) -> None:
        status = os.fstat(file)
        if stat.S_ISDIR(status.st_mode):
            self._step()
            path = Path(os.readlink(f"/proc/self/fd/{file}"))
            self._names[path] = {each.name: each.inode() for each in os.scandir(path)}
            return
        dirty = self._dirty.pop(status.st_ino, set())  # also if it fails
        self._step()
        kept = self._blocks.setdefault(status.st_ino, {})
        for number in dirty:
            kept[number] = os.pread(file, BLOCK, number * BLOCK).ljust(BLOCK, b"\0")
        for number in [each for each in kept if each * BLOCK >= status.st_size]:
            del kept[number]
        self._sizes[status.st_ino] = status.st_size
