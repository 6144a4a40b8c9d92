"""Parcels of a stream: files whose bytes arrive in chunks, and become sealed memory files."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Final, NamedTuple

SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
MFD_NOEXEC_SEAL: Final = 0x8


class RefusedParcel(Exception):
    """A parcel that is not accepted; its bytes are discarded, and the stream goes on.

    Attributes:
        call: its id, as stated by the sender.
        problem: why.
    """

    def __init__(self, call: int, problem: str) -> None:
        super().__init__(problem)
        self.call = call
        self.problem = problem


class Received(NamedTuple):
    """A frame; or a parcel: its id, and its sealed memory files, which the receiver must close."""

    frame: bytes
    call: int = 0
    files: tuple[int, ...] = ()


class Place(NamedTuple):
    """Where the last file of a parcel goes, instead of into a memory file.

    Attributes:
        file: a descriptor.
        at: offset in it.
        size: bytes that are wanted, neither more nor less.
    """

    file: int
    at: int
    size: int


class Incoming:
    """A parcel of which not all has arrived.

    Args:
        place: of its last file; None: a memory file, like the others.

    Attributes:
        call: its id.
        left: bytes that are missing.
        refusal: why it is not accepted, and its bytes are discarded; or empty.
    """

    def __init__(self, call: int, sizes: list[int], most_bytes: int, place: Place | None = None) -> None:
        self.call = call & (1 << 63) - 1
        self.left = sum(sizes)
        self._sizes = sizes
        self._place: Place | None = None
        self._files: list[int] = []  # made here
        self._begun = 0
        self._at = 0
        self.refusal = ""
        if place is not None and sizes[-1] != place.size:
            self.refusal = f"want {place.size} bytes, got {sizes[-1]}"
        elif (largest := max(sizes if place is None else sizes[:-1], default=0)) > most_bytes:
            self.refusal = f"want at most {most_bytes} bytes, got {largest}"
        elif place is not None:  # a descriptor of this parcel: it may outlive the one whose it is
            self._place = place._replace(file=os.dup(place.file))

    def take(self, body: memoryview) -> bool:
        """Write a chunk to its place; False if it is larger than its file's rest."""
        if self.refusal:
            self.left -= min(self.left, len(body))
            return True
        if not self._begun or self._at == self._sizes[self._begun - 1]:
            if self._place is None or self._begun + 1 < len(self._sizes):
                self._files.append(_memory_file())
            self._begun += 1
            self._at = 0
        if not 0 < len(body) <= self._sizes[self._begun - 1] - self._at:
            return False
        if self._place is not None and self._begun == len(self._sizes):
            file, start = self._place.file, self._place.at + self._at
        else:
            file, start = self._files[-1], self._at
        done = 0
        while done < len(body):
            done += os.pwrite(file, body[done:], start + done)
        self._at += len(body)
        self.left -= len(body)
        return True

    def seal(self) -> tuple[int, ...]:
        """The files that were made, complete and sealed."""
        for descriptor in self._files:
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        files, self._files = self._files, []
        self.close()
        return tuple(files)

    def close(self) -> None:
        """Close its files; safe to repeat."""
        files, self._files = self._files, []
        place, self._place = self._place, None
        for descriptor in (*files, *(() if place is None else (place.file,))):
            os.close(descriptor)


def _memory_file() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("parcel", flags | MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # kernels before 6.3
            raise
        return os.memfd_create("parcel", flags)
