"""A file of small named numbers, each updated in place and crash-safe.

A record is two slots of 512 bytes. A change goes into the slot without the newest value, and is flushed
before it is reported: a write that a crash interrupted damages only an unreported value. The file is grown
ahead, so that a change flushes its own block and no file system's journal.

    slot = SHA-256 of what follows (32) || size (2, big-endian) || canonical JSON || zeros

Each change has the next number, so that a witness can tell the content from the content one change earlier.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from kluis import files
from kluis.errors import FormatError, UnavailableError
from kluis.formats.encoding import jcs
from kluis.hashes import sha256
from kluis.tee import keyfiles

SLOT: Final = 512
RECORD: Final = 2 * SLOT
GROWTH: Final = 64 * RECORD
MOST_BYTES: Final = 4096 * RECORD
HEADER: Final = 34
EMPTY: Final = bytes(SLOT)


class Held(NamedTuple):
    """A number, its mark, and the user who created it; 0 in records from before there were users."""

    value: int
    mark: bytes
    user: int = 0


class _Record(NamedTuple):
    """A slot's content; ``change`` is 0 in records from before changes had numbers."""

    name: str
    held: Held
    change: int

    def encode(self) -> bytes:
        value, mark, user = self.held
        if self.change and self.name.isascii() and self.name.replace("/", "0").isalnum():
            # The canonical form of the names there are; each step counts where the processor was idle before.
            text = f'"change":{self.change},"mark":"{mark.hex()}","name":"{self.name}","user":{user}'
            return f'{{{text},"value":{value}}}'.encode()
        numbered: dict[str, jcs.Writable] = {"change": self.change} if self.change else {}
        return jcs.dumps({"mark": mark.hex(), "name": self.name, "user": user, "value": value, **numbered})


class Slots:
    """Numbers that only increase, by name. Not thread-safe.

    Args:
        path: the file, mode 0600; created if needed.

    Attributes:
        values: all of them.
        change: number of the last change.

    Raises:
        UnavailableError: the file is another user's, or accessible to others; or cannot be written.
        FormatError: it is damaged in a way that a crash cannot cause.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            files.write(path, bytes(GROWTH))
        self._file = keyfiles.open_checked(path, os.O_RDWR)
        weakref.finalize(self, os.close, self._file)
        try:
            # A process that ended in the middle may have left unflushed data: flush it before anything
            # follows.
            os.fdatasync(self._file)
        except OSError as error:
            raise self._fault(error) from None
        self._size = os.fstat(self._file).st_size
        if self._size % RECORD or self._size > MOST_BYTES:
            raise FormatError(
                f"{path.name}: want whole records, at most {MOST_BYTES} bytes, got {self._size}"
            )
        self.values: dict[str, Held] = {}
        self.change = 0
        self._leaves: dict[str, bytes] = {}
        self._before: tuple[str, bytes] | None = None
        self._places: dict[str, tuple[int, int]] = {}
        self._free: list[int] = []
        for at in range(self._size - RECORD, -1, -RECORD):
            self._read(at)

    def digest(self) -> bytes:
        """SHA-256 over all values, their marks, users and numbers of changes: 32 bytes."""
        return _digest(self._leaves)

    def digest_before(self) -> bytes:
        """The digest before the last change."""
        if self._before is None:
            return self.digest()
        name, leaf = self._before
        return _digest({**self._leaves, name: leaf} if leaf else _without(self._leaves, name))

    def write(self, name: str, counter: Held) -> None:
        """Store a value that is higher than the existing one, on disk by the return.

        Raises:
            UnavailableError: the disk write failed; the old value is kept.
        """
        change = self.change + 1
        body = _Record(name, counter, change).encode()
        place = self._places.get(name)
        try:
            if place is None and not self._free:
                self._grow()
            record, slot = place or (self._free[-1], 1)
            os.pwrite(self._file, _slot_of(body), record + (1 - slot) * SLOT)
            os.fdatasync(self._file)
        except OSError as error:
            raise self._fault(error) from None
        if place is None:
            self._free.pop()
        self._places[name] = record, 1 - slot
        self.values[name] = counter
        self.change = change
        self._before = name, self._leaves.get(name, b"")
        self._leaves[name] = sha256(body)

    def _fault(self, error: OSError) -> UnavailableError:
        return UnavailableError(f"{self._path.name}: cannot be written: {error.strerror}")

    def _grow(self) -> None:
        os.pwrite(self._file, bytes(GROWTH), self._size)
        os.fsync(self._file)
        self._free += range(self._size + GROWTH - RECORD, self._size - RECORD, -RECORD)
        self._size += GROWTH

    def _read(self, at: int) -> None:
        pair = [os.pread(self._file, SLOT, at + slot * SLOT) for slot in range(2)]
        readable = [(read, slot) for slot in range(2) if (read := _decode(pair[slot])) is not None]
        if not readable:
            if EMPTY not in pair:
                raise FormatError(f"{self._path.name} at {at}: want one whole slot, got two damaged ones")
            self._free.append(at)  # never written, or its first write was cut short
            return
        readable.sort(key=lambda one: one[0].held.value)
        newest, slot = readable[-1]
        name = newest.name
        if name in self.values or any(other.name != name for other, _ in readable):
            raise FormatError(f"{self._path.name} at {at}: want one record a name, got another")
        self.values[name] = newest.held
        self._leaves[name] = sha256(newest.encode())
        self._places[name] = at, slot
        if newest.change > self.change:
            self.change = newest.change
            self._before = name, sha256(readable[0][0].encode()) if len(readable) == len(pair) else b""


def _digest(leaves: Mapping[str, bytes]) -> bytes:
    return sha256(b"".join(leaves[name] for name in sorted(leaves)))


def _without(leaves: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    return {other: leaf for other, leaf in leaves.items() if other != name}


def _slot_of(body: bytes) -> bytes:
    filled = (len(body).to_bytes(2, "big") + body).ljust(SLOT - 32, b"\0")
    if len(filled) > SLOT - 32:
        raise FormatError(f"counter: want at most {SLOT - HEADER} bytes, got {len(body)}")
    return sha256(filled) + filled


def _decode(slot: bytes) -> _Record | None:
    """The content of a slot; None if it is empty or incomplete."""
    filled = slot[32:]
    if slot[:32] != sha256(filled):
        return None
    match jcs.loads_canonical(filled[2 : 2 + int.from_bytes(filled[:2], "big")], "counter"):
        case {"mark": str(mark), "name": str(name), "value": int(value), **rest}:
            counter = Held(value, bytes.fromhex(mark), _number(rest, "user"))
            return _Record(name, counter, _number(rest, "change"))
        case _:
            raise FormatError("counter: want a name, a value and a mark")


def _number(rest: dict[Any, Any], name: str) -> int:
    match rest.get(name, 0):
        case int(number):
            return number
        case _:
            return 0
