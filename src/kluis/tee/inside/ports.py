"""Streams of a machine: its virtio-serial ports, or connections to a socket.

A port is a device that one process may have open, and that one host at a time connects to. It is opened again
for each host: with its close the kernel discards what was not read. A host that comes while the bytes of the
host before are read has its first message lost with them, and sends it again.

A port without a host is always ready for poll(2), so that call does not wait for one. The kernel's signal for
input and output (SIGIO) does, and goes to one thread.

Spec: fcntl(2), "Signals"; Linux, drivers/char/virtio_console.c.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from kluis.streams import Stream

NAMES: Final = Path("/sys/class/virtio-ports")
DEVICES: Final = Path("/dev")
PREFIX: Final = "kluis."
BACKLOG: Final = 64
PAUSE_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 1.0
"""How often the ports are looked at without a signal, for devices that send none."""
F_SETOWN_EX: Final = 15
F_OWNER_TID: Final = 0

Serve = Callable[[Stream], object]


def find(names: Path = NAMES, devices: Path = DEVICES) -> list[Path]:
    """The devices of the ports for hosts: those called ``kluis.0``, ``kluis.1`` and so on."""
    paths = []
    for entry in sorted(names.iterdir()) if names.is_dir() else ():
        name = (entry / "name").read_text().strip()
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).isdecimal():
            paths.append((int(name.removeprefix(PREFIX)), devices / entry.name))
    return [device for _, device in sorted(paths)]


class Arrivals:
    """Waits for hosts at any number of ports, in one thread that lives as long as the process."""

    def __init__(self) -> None:
        self._waiting: dict[int, threading.Event] = {}
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._thread = 0
        threading.Thread(target=self._watch, name="arrivals", daemon=True).start()
        self._ready.wait()

    def wait(self, end: int) -> None:
        """Wait until a host has sent something to a port.

        Args:
            end: descriptor of the port; the kernel sends no signals for it afterwards.

        Raises:
            OSError: the device takes no such setting.
        """
        arrived = threading.Event()
        flags = fcntl.fcntl(end, fcntl.F_GETFL)
        owner = b"".join(each.to_bytes(4, "little") for each in (F_OWNER_TID, self._thread))
        fcntl.fcntl(end, F_SETOWN_EX, owner)  # a signal for the whole process could end it
        with self._lock:
            self._waiting[end] = arrived
        try:
            fcntl.fcntl(end, fcntl.F_SETFL, flags | os.O_ASYNC)
            if not readable([end]):  # else it sent before the signal was requested
                arrived.wait()
        finally:
            with self._lock:
                del self._waiting[end]
            fcntl.fcntl(end, fcntl.F_SETFL, flags)

    def _watch(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
        self._thread = threading.get_native_id()
        self._ready.set()
        while True:
            signal.sigtimedwait({signal.SIGIO}, LOOK_SECONDS)
            with self._lock:
                for end in readable(self._waiting):
                    self._waiting[end].set()


def readable(ends: Iterable[int]) -> list[int]:
    """Those of the descriptors at which a host has sent something that was not read.

    A port without a host reports that it has hung up, and that it can be read: reading it returns nothing.
    """
    poll = select.poll()
    for end in ends:
        poll.register(end, select.POLLIN)
    return [end for end, events in poll.poll(0) if events & (select.POLLIN | select.POLLHUP) == select.POLLIN]


def serve_port(device: Path, serve: Serve, arrivals: Arrivals) -> None:
    """Serve the hosts of one port, one after the other, indefinitely."""
    while True:
        with contextlib.suppress(OSError):  # the last enclave may still have it open
            serve(Stream(_await_host(device, arrivals)))
        time.sleep(PAUSE_SECONDS)


def _await_host(device: Path, arrivals: Arrivals) -> int:
    """Open the port, and wait until a host has sent something; return its descriptor.

    It does not block: one read takes all buffers that are there, and does not wait for the next.

    Raises:
        OSError: it cannot be opened.
    """
    end = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        arrivals.wait(end)
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
