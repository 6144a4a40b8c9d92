"""Streams of a machine: its virtio-serial ports, or connections to a socket.

A port is a device that one process may have open, and that one host at a time connects to. It is opened again
for each host: with its close the kernel discards what was not read. A host that comes while the bytes of the
host before are read has its first message lost with them, and sends it again.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kluis.streams import Stream

NAMES: Final = Path("/sys/class/virtio-ports")
DEVICES: Final = Path("/dev")
PREFIX: Final = "kluis."
BACKLOG: Final = 64
PAUSE_SECONDS: Final = 0.1

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
    """Serve the hosts of one port, one after the other, indefinitely."""
    while True:
        with contextlib.suppress(OSError):  # the last enclave may still have it open
            serve(Stream(_await_host(device)))
        time.sleep(PAUSE_SECONDS)


def _await_host(device: Path) -> int:
    """Open the port, and wait until a host has sent something; return its descriptor.

    It does not block: one read takes all buffers that are there, and does not wait for the next.

    Raises:
        OSError: it cannot be opened.
    """
    end = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        while not any(events & select.POLLIN for _, events in poll.poll()):
            time.sleep(PAUSE_SECONDS)  # no host has it, which the kernel reports at once
    except BaseException:
        os.close(end)
        raise
    return end


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
