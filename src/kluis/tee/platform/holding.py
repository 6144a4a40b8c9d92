"""Layers held: read once into sealed memory files, measured there, unpacked from there.

What is measured is what is used: nothing is read a second time from a file that others can change.
A layer is held by its digest for the platform's lifetime, so the next launch reads only the manifest.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from kluis.errors import AuthenticityError, FormatError, UnavailableError
from kluis.tee.image import canonical
from kluis.tee.image.layers import Entry, Layer

SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
CHUNK: Final = 64 << 20


class Holding:
    """The layers of this platform.

    Attributes:
        held: files of each layer that is held, by its digest.

    Args:
        unpack: gives a measured layer to the spawner: digest, descriptor, index offset and size, data offset.
        most_bytes: of all layers together; what a sparse file says of itself costs nothing to say.
    """

    def __init__(
        self, unpack: Callable[[bytes, int, int, int, int], None], most_bytes: int | None = None
    ) -> None:
        self._unpack = unpack
        self._left = half_of_memory() if most_bytes is None else most_bytes
        self.held: dict[bytes, tuple[Entry, ...]] = {}
        self._lock = threading.Lock()

    def hold(self, image: int, layer: Layer) -> None:
        """Make sure that ``layer`` of the open file ``image`` is held.

        Raises:
            AuthenticityError: a file of it is not what its index says.
            FormatError: the file is shorter than it said.
            UnavailableError: this machine's memory does not hold it beside the others.
        """
        if layer.digest in self.held:
            return
        with self._lock:
            if layer.data_size > self._left:
                raise UnavailableError(
                    f"layer {layer.name}: want at most {self._left} bytes, got {layer.data_size}",
                    hint="half of the memory holds layers; a platform that starts again holds none",
                    code="layers_full",
                )
            self._left -= layer.data_size
        held = False
        try:
            held = self._hold(image, layer)
        finally:
            if not held:
                with self._lock:
                    self._left += layer.data_size

    def _hold(self, image: int, layer: Layer) -> bool:
        """Copy, measure, unpack; whether it is this layer that was unpacked, and no earlier one like it."""
        blob = os.memfd_create(f"layer-{layer.name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            # Not under the lock: the file may lie on a file system of its owner's own, which answers when
            # it likes, and others launch meanwhile.
            index = canonical.encode(list(layer.files))
            _copy(image, blob, layer.data_offset, layer.data_size, layer.name)
            os.lseek(blob, 0, os.SEEK_END)
            os.write(blob, index)
            seal(blob)
            if hashlib.sha256(index).digest() != layer.digest:
                raise AuthenticityError(f"layer {layer.name}: its index is not canonical")
            if layer.data_size:
                with mmap.mmap(blob, 0, prot=mmap.PROT_READ) as view:
                    _measure(memoryview(view), layer)
            with self._lock:
                if layer.digest in self.held:
                    return False
                self._unpack(layer.digest, blob, layer.data_size, len(index), 0)
                self.held[layer.digest] = layer.files
                return True
        finally:
            os.close(blob)


def half_of_memory() -> int:
    """Half of this machine's memory, bytes: what a tmpfs holds unless told otherwise."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def seal(memory_file: int) -> None:
    """Make a memory file unchangeable for good, for everybody."""
    fcntl.fcntl(memory_file, fcntl.F_ADD_SEALS, SEALS)


def _copy(source: int, target: int, offset: int, size: int, name: str) -> None:
    at = offset
    while at < offset + size:
        sent = os.sendfile(target, source, at, min(CHUNK, offset + size - at))
        if not sent:
            raise FormatError(f"layer {name}: {offset + size - at} bytes are missing", code="truncated")
        at += sent


def _measure(data: memoryview, layer: Layer) -> None:
    """Hash every file, and see that nothing hides between them; two threads, since hashing holds no lock."""
    halves: tuple[list[Entry], list[Entry]] = ([], [])
    sizes = [0, 0]
    for entry in layer.files:
        lighter = sizes.index(min(sizes))
        halves[lighter].append(entry)
        sizes[lighter] += entry.size

    def check(entries: list[Entry]) -> None:
        for entry in entries:
            got = hashlib.sha256(data[entry.offset : entry.offset + entry.size]).hexdigest()
            if got != entry.sha256:
                raise AuthenticityError(
                    f"layer {layer.name}: {entry.path!r}: want SHA-256 {entry.sha256}, got {got}",
                    code="layer_changed",
                    hint="the image changed after it was built: get it again, or build it again",
                )

    try:
        end = 0
        for entry in layer.files:
            if bytes(data[end : entry.offset]).strip(b"\0"):
                raise AuthenticityError(
                    f"layer {layer.name}: {entry.path!r}: bytes before it are not zero", code="layer_changed"
                )
            end = entry.offset + entry.size
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(check, halves))
    finally:
        data.release()
