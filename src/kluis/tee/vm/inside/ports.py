"""Streams of a machine: its virtio-serial ports, or connections to a socket.

A port is a device that one process may have open. It has no connections, so each use of it begins with a
mark: see :mod:`kluis.tee.remote.ports`. It is opened again for each.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kluis.streams import INLINE, Stream
from kluis.tee.remote.ports import CHUNK, MARK, MARK_BYTES

NAMES: Final = Path("/sys/class/virtio-ports")
DEVICES: Final = Path("/dev")
PREFIX: Final = "kluis."
BACKLOG: Final = 64
PAUSE_SECONDS: Final = 0.05
MOST_UNREAD: Final = 2 * INLINE

Serve = Callable[[Stream], None]


def find(names: Path = NAMES, devices: Path = DEVICES) -> list[Path]:
    """The devices of the ports for hosts: those called ``kluis.0``, ``kluis.1`` and so on."""
    found = []
    for entry in sorted(names.iterdir()) if names.is_dir() else ():
        name = (entry / "name").read_text().strip()
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).isdecimal():
            found.append((int(name.removeprefix(PREFIX)), devices / entry.name))
    return [device for _, device in sorted(found)]


def serve_port(device: Path, serve: Serve) -> None:
    """Serve the uses of one port, one after the other, indefinitely."""
    begun = b""
    while True:
        with contextlib.suppress(OSError):  # the last enclave may still have it open
            end = os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
            try:
                begun = await_mark(end, begun)
            except BaseException:
                os.close(end)
                raise
            stream = Stream(end, begun=begun)
            serve(stream)
            begun = stream.unread()[:MOST_UNREAD]
            continue
        time.sleep(PAUSE_SECONDS)


def await_mark(end: int, begun: bytes = b"") -> bytes:
    """Return each mark of a host, and discard what is before it, until its use of the port begins.

    Args:
        end: the port.
        begun: bytes of it that were already read.

    Returns:
        The first bytes after the mark.

    Raises:
        OSError: the port has failed.
    """
    data, found = begun, b""
    while True:
        at = 0 if found else data.find(MARK)
        if at < 0:
            data = data[1 - len(MARK) :]
        elif data.startswith(MARK, at) and len(data) >= at + MARK_BYTES:
            mark, data = data[at : at + MARK_BYTES], data[at + MARK_BYTES :]
            if mark != found:  # a host that has no answer yet repeats it
                _write_all(end, mark)
            found = mark
            continue
        elif found and data and not MARK.startswith(data[: len(MARK)]):
            return data
        else:
            data = data[at:]
        data += _read(end)


def _read(end: int) -> bytes:
    while not (data := os.read(end, CHUNK)):
        time.sleep(PAUSE_SECONDS)  # no host has it open
    return data


def _write_all(end: int, data: bytes) -> None:
    while data:
        data = data[os.write(end, data) :]


def listen(listener: socket.socket, serve: Serve) -> None:
    """Serve each connection to a listening stream socket in a separate thread, until the socket is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            if listener.fileno() < 0:
                return
            time.sleep(PAUSE_SECONDS)  # no descriptor is left, or the host is gone again
            continue
        try:
            # A plain descriptor: it stays blocking, as the enclave needs it.
            threading.Thread(target=serve, args=(Stream(connection.detach()),), daemon=True).start()
        except RuntimeError:  # no memory is left for its stack; the host sees its stream end with the process
            time.sleep(PAUSE_SECONDS)


def listener_of(unix: Path | None, vsock: int | None) -> socket.socket:
    """A listening socket at a path, or on a port of AF_VSOCK.

    Raises:
        OSError: it cannot be bound.
    """
    if unix is not None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(unix))
    else:
        listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        listener.bind((socket.VMADDR_CID_ANY, vsock or 0))
    listener.listen(BACKLOG)
    return listener
