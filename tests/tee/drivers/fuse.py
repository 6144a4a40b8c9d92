"""A small FUSE server: a tree of files whose reads, writes, folders and ioctls are functions of a test.

So a driver meets the kernel's own system calls, and has no branch for tests. It serves in a thread of this
process; the kernel's calls release Python's lock.

Spec: Linux, ``include/uapi/linux/fuse.h``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import socket
import stat
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

MISSING = [] if shutil.which("fusermount3") and os.access("/dev/fuse", os.R_OK) else ["fuse3"]

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_SIZE = 1 << 20
_SILENT = 2, 42, 36  # FORGET, BATCH_FORGET, INTERRUPT


class Tree(Protocol):
    """What a test serves; a path is relative to the mount, "" is its root. Errors are OSErrors."""

    def kind(self, path: str) -> int:
        """Mode of a file or folder; raises FileNotFoundError."""

    def read(self, path: str) -> bytes:
        """The whole content, as a new reader sees it."""

    def write(self, path: str, data: bytes) -> None:
        """Take the data of one open file, when it is closed."""

    def mkdir(self, path: str) -> None:
        """Make a folder."""

    def rmdir(self, path: str) -> None:
        """Remove a folder."""

    def ioctl(self, path: str, request: int, data: bytes, pid: int) -> bytes:
        """Answer a request with its structure, changed."""

    @property
    def exchanges(self) -> bool:
        """Whether each write is a separate message, and a read returns what answers the last one."""


class Files:
    """Base of trees: one file of mode 0600 named ``device``, and nothing else."""

    exchanges = False

    def kind(self, path: str) -> int:
        if path == "":
            return stat.S_IFDIR | 0o755
        if path == "device":
            return stat.S_IFREG | 0o600
        raise FileNotFoundError(errno.ENOENT, "")

    def read(self, path: str) -> bytes:
        raise OSError(errno.EINVAL, path)

    def write(self, path: str, data: bytes) -> None:
        raise OSError(errno.EINVAL, path)

    def mkdir(self, path: str) -> None:
        raise OSError(errno.EPERM, path)

    def rmdir(self, path: str) -> None:
        raise OSError(errno.EPERM, path)

    def ioctl(self, path: str, request: int, data: bytes, pid: int) -> bytes:
        raise OSError(errno.ENOTTY, path)


class Server:
    """Serves one tree over the descriptor of a mount, until ``stop`` is readable."""

    def __init__(self, descriptor: int, tree: Tree, stop: int) -> None:
        self._fuse = descriptor
        self._poll = select.poll()
        for each in (descriptor, stop):
            self._poll.register(each, select.POLLIN)
        self._stop = stop
        self._tree = tree
        self._paths = {1: ""}
        self._open: dict[int, bytes | bytearray | None] = {}
        self._next = 2

    def serve(self) -> None:
        """Serve until the end, or until the mount is gone."""
        while self._stop not in dict(self._poll.poll()):
            try:
                data = os.read(self._fuse, _SIZE + 4096)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                    continue
                return
            if not data:
                return
            _, code, unique, node, _, _, pid, _, _ = _IN.unpack_from(data)
            if code in _SILENT:
                continue
            fault, answer = 0, b""
            try:
                answer = self._answer(code, node, data[_IN.size :], pid)
            except OSError as error:
                fault = error.errno or errno.EIO
            except Exception:
                fault = errno.EIO
            with contextlib.suppress(OSError):
                os.write(self._fuse, _OUT.pack(_OUT.size + len(answer), -fault, unique) + answer)

    def _answer(self, code: int, node: int, body: bytes, pid: int) -> bytes:
        path = self._paths.get(node, "")
        match code:
            case 26:  # INIT
                return struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 0, 16, 12, _SIZE, 1, 0, 0, 0)
            case 1:  # LOOKUP
                return self._entry(_join(path, _name(body)))
            case 9:  # MKDIR
                made = _join(path, _name(body[8:]))
                self._tree.mkdir(made)
                return self._entry(made)
            case 11:  # RMDIR
                self._tree.rmdir(_join(path, _name(body)))
                return b""
            case 3 | 4:  # GETATTR, SETATTR
                return struct.pack("<QII", 0, 0, 0) + self._attributes(node, path)
            case 14:  # OPEN
                self._next += 1
                self._open[self._next] = None
                return struct.pack("<QII", self._next, 1, 0)
            case 27:  # OPENDIR
                return struct.pack("<QII", 0, 0, 0)
            case 15:  # READ
                handle, offset, size = struct.unpack_from("<QQI", body)
                if self._tree.exchanges:
                    return self._tree.read(path)[:size]
                if self._open[handle] is None:
                    self._open[handle] = self._tree.read(path)
                held = self._open[handle]
                assert held is not None
                return bytes(held[offset : offset + size])
            case 16:  # WRITE
                handle, offset, size = struct.unpack_from("<QQI", body)
                if self._tree.exchanges:
                    self._tree.write(path, body[40 : 40 + size])
                    return struct.pack("<II", size, 0)
                written = self._open[handle]
                if not isinstance(written, bytearray):
                    written = self._open[handle] = bytearray()
                written[offset:] = body[40 : 40 + size]
                return struct.pack("<II", size, 0)
            case 25:  # FLUSH
                (handle,) = struct.unpack_from("<Q", body)
                held = self._open[handle]
                if isinstance(held, bytearray):
                    self._tree.write(path, bytes(held))
                return b""
            case 18:  # RELEASE
                (handle,) = struct.unpack_from("<Q", body)
                self._open.pop(handle, None)
                return b""
            case 39:  # IOCTL
                _, _, request, _, size, _ = struct.unpack_from("<QIIQII", body)
                changed = self._tree.ioctl(path, request, body[32 : 32 + size], pid)
                return struct.pack("<iIII", 0, 0, 0, 0) + changed
            case 28 | 29 | 38:  # READDIR, RELEASEDIR, DESTROY
                return b""
            case _:
                raise OSError(errno.ENOSYS, "")

    def _entry(self, path: str) -> bytes:
        mode = self._tree.kind(path)
        node = next((node for node, known in self._paths.items() if known == path), None)
        if node is None:
            self._next += 1
            node = self._next
            self._paths[node] = path
        return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + self._attributes(node, path, mode)

    def _attributes(self, node: int, path: str, mode: int | None = None) -> bytes:
        mode = self._tree.kind(path) if mode is None else mode
        return _ATTR.pack(node, 4096, 8, 0, 0, 0, 0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)


def _name(body: bytes) -> str:
    return body.split(b"\0", 1)[0].decode()


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


@contextlib.contextmanager
def mounted(folder: Path, tree: Tree, *, apart: bool = False) -> Iterator[Path]:
    """Mount a tree at ``folder``, which is made; unmounted at the end.

    Args:
        folder: to make.
        tree: to serve.
        apart: serve in a separate process: Python keeps its lock in an ioctl of more than 1024 bytes.
    """
    folder.mkdir(parents=True)
    mine, theirs = socket.socketpair()
    with mine, theirs:
        subprocess.run(
            ["fusermount3", "-o", "nosuid,nodev,fsname=kluis-tests,subtype=tests", "--", str(folder)],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            check=True,
        )
        _, descriptors, _, _ = socket.recv_fds(mine, 1, 1)
    descriptor, (stopped, stop) = descriptors[0], os.pipe()
    server = Server(descriptor, tree, stopped)
    thread, child = None, 0
    if apart:
        child = os.fork()
        if not child:
            os.close(stop)
            server.serve()
            os._exit(0)
    else:
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
    try:
        yield folder
    finally:
        subprocess.run(["fusermount3", "-u", "-z", "--", str(folder)], check=False)
        os.close(stop)
        if thread:
            thread.join()  # before its descriptor may become another file's
        else:
            os.waitpid(child, 0)
        os.close(stopped)
        os.close(descriptor)


class Memory:
    """Another process's memory, as a device's driver in the kernel reads and writes it."""

    def __init__(self, pid: int) -> None:
        self._path = f"/proc/{pid}/mem"

    def read(self, address: int, size: int) -> bytes:
        with open(self._path, "rb", buffering=0) as memory:
            return os.pread(memory.fileno(), size, address)

    def write(self, address: int, data: bytes) -> None:
        with open(self._path, "r+b", buffering=0) as memory:
            os.pwrite(memory.fileno(), data, address)
