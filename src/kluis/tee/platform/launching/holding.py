"""Cached layers: measured in sealed memory files, and unpacked from there.

The measured bytes are the used bytes: nothing is read twice from a file that others can change. An image that
is a sealed memory file needs no copy, and of each other one a copy is made. Layers are
cached by digest, so the next launch reads only the manifest. A digest is no secret, and an image may be one:
so a user gets a cached layer only after bringing all of it once.

The platform itself runs on the base layer, whose files are laid before any image is launched. Where an image
has the same one, only its index is read: those files are measured against it at each launch, as every layer's
are (:mod:`~kluis.tee.platform.launching.remeasure`).

A layer is kept while an enclave uses it, and :data:`IDLE_SECONDS` after that, unless its memory is needed
earlier; the least recently used one is dropped first.

A layer's index takes memory of the platform itself, and its files and folders that of the kernel, however
little data is in them. So indexes have a limit and users' shares, like data.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fcntl
import hashlib
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from kluis.errors import AuthenticityError, FormatError, KluisError, UnavailableError
from kluis.tee.image import canonical
from kluis.tee.image.layers import Entry, Layer
from kluis.tee.platform.shares import is_operator, share

SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
CHUNK: Final = 64 << 20
LENGTH_BYTES: Final = 8
"""Before a layer's data, in an image."""
IDLE_SECONDS: Final = 600.0
"""How long an unused layer is kept."""
MOST_INDEX_BYTES: Final = 8 << 20
"""Of the layers of one launch that are not cached: some 40,000 files."""
MOST_LISTED: Final = 32 << 20
"""Of all cached layers: bytes of indexes, and ``FOLDER_BYTES`` for each folder."""
FOLDER_BYTES: Final = 256


class Part(NamedTuple):
    """Where a layer is in a sealed memory file.

    Attributes:
        file: its descriptor.
        data_at: offset of the layer's data; None if it is not there.
        index_at: offset of its index.
        index_size: of the index, bytes.
    """

    file: int
    data_at: int | None
    index_at: int
    index_size: int


@dataclasses.dataclass(slots=True)
class _Held:
    files: tuple[Entry, ...]
    index: bytes
    size: int
    listed: int
    brought_by: set[int] = dataclasses.field(default_factory=set)
    used_by: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    left_at: float = 0.0
    changed: bool = False  # where it is unpacked: the next launch reads it again, and its users still count


class Holding:
    """The cached layers of this platform. Thread-safe.

    Args:
        unpack: passes a measured layer to the spawner.
        drop: makes the spawner delete a layer, by its digest.
        most_bytes: of all layers together; limits what a sparse file can claim.
        laid: the digest of the layer that needs no unpacking; None if there is none.

    Attributes:
        laid: as above, until that layer is found changed.
    """

    def __init__(
        self,
        unpack: Callable[[Layer, Part], None],
        drop: Callable[[bytes], None],
        most_bytes: int | None = None,
        laid: bytes | None = None,
    ) -> None:
        self.laid = laid
        self._unpack = unpack
        self._drop = drop
        self._most = half_of_memory() if most_bytes is None else most_bytes
        self._held: dict[bytes, _Held] = {}
        self._copied: collections.Counter[int] = collections.Counter()  # bytes under way, by user
        self._listed: collections.Counter[int] = collections.Counter()  # of their indexes, likewise
        self._lock = threading.Lock()

    def files(self, user: int) -> dict[bytes, tuple[Entry, ...]]:
        """The files of each cached layer that a user brought, by its digest; of every layer for operators."""
        with self._lock:
            return {digest: entry.files for digest, entry in self._held.items() if _has_brought(entry, user)}

    def digests(self) -> list[bytes]:
        """The digests of the cached layers that have not changed."""
        with self._lock:
            return [digest for digest, entry in self._held.items() if not entry.changed]

    def hold(self, image: int, layer: Layer, user: int) -> bytes:
        """Cache ``layer`` of the open file ``image`` until ``user`` releases it.

        Returns:
            Its index.

        Raises:
            AuthenticityError: one of its files does not match its index.
            FormatError: the file is shorter than stated.
            UnavailableError: this machine's memory is too small for it and those in use, or the user's share
                is used up.
        """
        with self._lock:
            found = self._held.get(layer.digest)
            if found and not found.changed and _has_brought(found, user):
                if not found.used_by[user]:
                    self._check_share(layer, found.listed, user)
                found.used_by[user] += 1
                return found.index
        index = canonical.encode(list(layer.files))
        listed = len(index) + FOLDER_BYTES * _count_folders(layer)
        with self._lock:
            self._check_share(layer, listed, user)
            self._make_room(layer, listed)
            self._copied[user] += layer.data_size
            self._listed[user] += listed
        try:
            return self._hold(image, layer, index, listed, user)
        finally:
            with self._lock:
                self._copied[user] -= layer.data_size
                self._listed[user] -= listed

    def release(self, digests: Iterable[bytes], user: int) -> None:
        """Release a layer from :meth:`hold`."""
        with self._lock:
            for digest in digests:
                if entry := self._held.get(digest):
                    entry.used_by[user] -= 1
                    entry.used_by += collections.Counter()  # forgets the users that have none
                    entry.left_at = time.monotonic()

    def forget(self, digest: bytes) -> None:
        """Use a layer for no further launch: the next one reads it again. Running enclaves still count as
        users.
        """
        with self._lock:
            if digest == self.laid:
                self.laid = None
            if entry := self._held.get(digest):
                entry.changed = True

    def tidy(self, idle_seconds: float = IDLE_SECONDS) -> None:
        """Drop the layers unused for that long; a failure for one does not affect the others."""
        until = time.monotonic() - idle_seconds
        with self._lock:
            for digest in [
                d for d, entry in self._held.items() if not entry.used_by and entry.left_at <= until
            ]:
                self._evict(digest)

    def _check_share(self, layer: Layer, listed: int, user: int) -> None:
        most = self._left(user, self._most, self._copied, lambda held: held.size)
        if layer.data_size > most:
            raise UnavailableError(
                f"layer {layer.name}: want at most {max(most, 0)} bytes, got {layer.data_size}",
                hint="end enclaves that are not needed: layers may take half of this machine's memory,"
                " and one user's half of what the others leave of that",
                code="layers_full",
            )
        most = self._left(user, MOST_LISTED, self._listed, lambda held: held.listed)
        if listed > most:
            raise UnavailableError(
                f"layer {layer.name}: want an index of at most {max(most, 0)} bytes, got {listed}",
                hint="end enclaves that are not needed: indexes of layers, with their folders, may take"
                f" {MOST_LISTED} bytes, and one user's half of what the others leave of that",
                code="layers_full",
            )

    def _left(
        self, user: int, total: int, under_way: collections.Counter[int], amount: Callable[[_Held], int]
    ) -> int:
        """How much a user may still take of ``total``; negative where others came before."""
        mine = sum(amount(held) for held in self._held.values() if held.used_by[user]) + under_way[user]
        others = sum(amount(held) for held in self._held.values() if +held.used_by and not held.used_by[user])
        others += under_way.total() - under_way[user]
        return share(total, others, user) - mine

    def _make_room(self, layer: Layer, listed: int) -> None:
        idle = sorted((held.left_at, digest) for digest, held in self._held.items() if not +held.used_by)
        while idle and not self._has_room(layer.data_size, listed):
            self._evict(idle.pop(0)[1])

    def _has_room(self, size: int, listed: int) -> bool:
        sizes = sum(held.size for held in self._held.values()) + self._copied.total()
        lists = sum(held.listed for held in self._held.values()) + self._listed.total()
        return sizes + size <= self._most and lists + listed <= MOST_LISTED

    def _evict(self, digest: bytes) -> None:
        if not self._held.pop(digest).changed:  # or the spawner has set it aside
            with contextlib.suppress(KluisError):  # the next launch that needs it has it measured again
                self._drop(digest)

    def _hold(self, image: int, layer: Layer, index: bytes, listed: int, user: int) -> bytes:
        """Measure and unpack, unless another thread has unpacked it meanwhile."""
        if hashlib.sha256(index).digest() != layer.digest:
            raise AuthenticityError(f"layer {layer.name}: its index is not canonical")
        # Not under the lock: the file may be on its owner's file system, which may be slow, while others
        # launch.
        with _sealed(image, layer, index, with_data=layer.digest != self.laid) as part:
            if part.data_at is not None and layer.data_size:
                with mmap.mmap(part.file, 0, prot=mmap.PROT_READ) as view, memoryview(view) as whole:
                    _measure(whole[part.data_at : part.data_at + layer.data_size], layer)
            with self._lock:
                entry = self._held.get(layer.digest) or _Held(
                    layer.files, index, layer.data_size, listed, changed=True
                )
                if entry.changed:
                    self._unpack(layer, part)
                    entry.changed = False
                    self._held[layer.digest] = entry
                entry.brought_by.add(user)
                entry.used_by[user] += 1
                return index


@contextlib.contextmanager
def _sealed(image: int, layer: Layer, index: bytes, *, with_data: bool) -> Iterator[Part]:
    """A layer in a memory file that nobody can change: the image itself, or a copy."""
    if is_sealed(image):
        index_at = layer.data_offset - LENGTH_BYTES - len(index)
        if os.pread(image, len(index), max(index_at, 0)) != index:
            raise AuthenticityError(f"layer {layer.name}: its index is not in the image")
        yield Part(image, layer.data_offset if with_data else None, index_at, len(index))
        return
    blob = os.memfd_create(f"layer-{layer.name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        size = layer.data_size if with_data else 0
        _copy(image, blob, layer.data_offset, size, layer.name)
        os.lseek(blob, 0, os.SEEK_END)
        os.write(blob, index)
        seal(blob)
        yield Part(blob, 0 if with_data else None, size, len(index))
    finally:
        os.close(blob)


def _has_brought(entry: _Held, user: int) -> bool:
    return user in entry.brought_by or is_operator(user)


def _count_folders(layer: Layer) -> int:
    found: set[str] = set()
    for entry in layer.files:
        folder = entry.path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return len(found)


def half_of_memory() -> int:
    """Half of this machine's memory, bytes: a tmpfs's default limit."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def seal(memory_file: int) -> None:
    """Make a memory file permanently unchangeable, for everyone."""
    fcntl.fcntl(memory_file, fcntl.F_ADD_SEALS, SEALS)


def is_sealed(file: int) -> bool:
    """Whether a file is a memory file that nobody can change any more."""
    try:
        return fcntl.fcntl(file, fcntl.F_GET_SEALS) & SEALS == SEALS
    except OSError:  # not a memory file
        return False


def _copy(source: int, target: int, offset: int, size: int, name: str) -> None:
    at = offset
    while at < offset + size:
        sent = os.sendfile(target, source, at, min(CHUNK, offset + size - at))
        if not sent:
            raise FormatError(f"layer {name}: {offset + size - at} bytes are missing", code="truncated")
        at += sent


def _measure(data: memoryview, layer: Layer) -> None:
    """Hash every file, and check that nothing is hidden between them; two threads, because hashing releases
    the lock.
    """
    halves: tuple[list[Entry], list[Entry]] = ([], [])
    sizes = [0, 0]
    for entry in layer.files:
        lighter = sizes.index(min(sizes))
        halves[lighter].append(entry)
        sizes[lighter] += entry.size

    problems: list[str] = []
    measured = []  # a thread that ended early, for whatever reason, has measured nothing

    def check(entries: list[Entry]) -> None:
        for entry in entries:
            with data[entry.offset : entry.offset + entry.size] as part:
                got = hashlib.sha256(part).hexdigest()
            if got != entry.sha256:
                problems.append(f"{entry.path!r}: want SHA-256 {entry.sha256}, got {got}")
                return
        measured.append(entries)

    try:
        end = 0
        for entry in layer.files:
            if bytes(data[end : entry.offset]).strip(b"\0"):
                raise AuthenticityError(
                    f"layer {layer.name}: {entry.path!r}: bytes before it are not zero", code="layer_changed"
                )
            end = entry.offset + entry.size
        other = threading.Thread(target=check, args=(halves[1],), name="measure")
        other.start()
        try:
            check(halves[0])
        finally:
            other.join()
        if len(measured) != len(halves):
            problem = problems[0] if problems else "not all of it could be measured"
            raise AuthenticityError(
                f"layer {layer.name}: {problem}",
                code="layer_changed",
                hint="the image changed after it was built: get it again, or build it again",
            )
    finally:
        data.release()
