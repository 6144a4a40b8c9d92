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

from kluis.streams import Stream
from kluis.tee.remote.ports import CHUNK, MARK, MARK_BYTES

NAMES: Final = Path("/sys/class/virtio-ports")
DEVICES: Final = Path("/dev")
PREFIX: Final = "kluis."
BACKLOG: Final = 64
PAUSE_SECONDS: Final = 0.05
FIRST_BYTES: Final = 9

Serve = Callable[[Stream], object]


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
    while True:
        with contextlib.suppress(OSError):  # the last enclave may still have it open
            end = os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
            try:
                _serve_open(end, serve)
            finally:
                os.close(end)
        time.sleep(PAUSE_SECONDS)


def _serve_open(end: int, serve: Serve) -> None:
    """Serve until an enclave has had the port: opened again, it has nothing of what that did not read."""
    unread = b""
    while True:
        stream = Stream(os.dup(end), begun=await_mark(end, unread))
        if serve(stream):
            return
        _, mark, rest = stream.unread().partition(MARK)
        unread = mark + rest  # the mark of the next use may have ended this one


def await_mark(end: int, begun: bytes = b"") -> bytes:
    """Return each mark of a host, and discard what is before it, until its use of the port begins.

    A host whose connection to the port is new sends no mark: its use begins with a message.

    Args:
        end: the port.
        begun: bytes of it that were already read, of the use before.

    Returns:
        The first bytes after the mark.

    Raises:
        OSError: the port has failed.
    """
    data, found, new = begun, b"", not begun
    while True:
        if new and not found and (len(data) < FIRST_BYTES or _begins(data)):
            if _begins(data):
                return data
            data += _read(end)
            continue
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


def _begins(data: bytes) -> bool:
    """Whether this is the first message of a use: the head of record 0, a frame, and an object."""
    return data[3:FIRST_BYTES] == bytes(5) + b"{"


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
