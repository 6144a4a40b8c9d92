"""Streams of a machine: its virtio-serial ports, or connections to a socket.

A port is a device that one process may have open. It has no connections: reading returns nothing while no
host has it open, and when a host comes, bytes are there. So it is opened again after each host.
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
PAUSE_SECONDS: Final = 0.05

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
    """Serve the hosts of one port, one after the other, indefinitely."""
    while True:
        with contextlib.suppress(OSError):  # the last enclave may still have it open
            end = os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
            if _await_host(end):
                serve(Stream(end))
            else:
                os.close(end)
        time.sleep(PAUSE_SECONDS)


def _await_host(end: int) -> bool:
    """Wait until a host has sent something; False if the device has failed."""
    poll = select.poll()
    poll.register(end, select.POLLIN)
    while True:
        events = poll.poll()[0][1]
        if events & select.POLLIN:
            return True
        if events & (select.POLLERR | select.POLLNVAL):
            return False
        time.sleep(PAUSE_SECONDS)  # without a host, poll(2) reports a hang-up at once


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
