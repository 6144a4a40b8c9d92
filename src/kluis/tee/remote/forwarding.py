"""Granted sockets of an enclave in a machine: their bytes, over streams.

Each connection has one stream, with its bytes as frames. A parcel states that one direction has ended,
because a port of a machine cannot be shut down in one direction.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Final

from kluis.errors import KluisError
from kluis.streams import INLINE, Stream

IDLE_SECONDS: Final = 24 * 3600.0
"""How long a connection's other end may read nothing."""
MOST_CONNECTIONS: Final = 32
"""Connections of one listening socket at once; others wait in its queue."""
END: Final = (b"\0",)

Opens = Callable[[str], Stream]


def carry(sock: socket.socket, stream: Stream) -> None:
    """Carry bytes both ways until both directions have ended, or either end has failed; then close both."""
    stream.patience_seconds = IDLE_SECONDS
    sent, received = threading.Event(), threading.Event()
    sender = threading.Thread(target=_send, args=(sock, stream, sent, received), daemon=True)
    with sock, contextlib.closing(stream):
        sender.start()
        with contextlib.suppress(OSError):
            _receive(sock, stream, sent, received)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sender.join()


def _receive(sock: socket.socket, stream: Stream, sent: threading.Event, received: threading.Event) -> None:
    while (one := stream.receive()) is not None:
        for descriptor in one.files:
            os.close(descriptor)
        if one.frame:
            sock.sendall(one.frame)
            continue
        received.set()
        if sent.is_set():
            return
        sock.shutdown(socket.SHUT_WR)


def _send(sock: socket.socket, stream: Stream, sent: threading.Event, received: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := sock.recv(INLINE):
            stream.send(data)
    sent.set()
    with contextlib.suppress(OSError):
        stream.send_parcel(0, END)
        if received.is_set():  # the other end of a port does not see that this one is closed: end here
            stream.shutdown(socket.SHUT_RDWR)


class Forwarding:
    """The sockets that a host granted to one enclave.

    Args:
        sockets: by grant; duplicates are kept, and the caller may close its own.
        opens: opens a stream that the machine connects to the enclave's socket of that grant.
    """

    def __init__(self, sockets: Mapping[str, socket.socket], opens: Opens) -> None:
        self._sockets = {name: each.dup() for name, each in sockets.items()}
        self._opens = opens
        self._ended: list[int] = []
        self._lock = threading.Lock()

    def start(self) -> None:
        """Forward connected sockets, and accept on listening ones.

        Raises:
            KluisError: the machine does not connect a socket.
        """
        for name, each in self._sockets.items():
            if name.startswith("connect:"):
                _in_thread(carry, each, self._opens(name))
        for name, each in self._sockets.items():
            if name.startswith("listen:"):
                ended = os.eventfd(0, os.EFD_CLOEXEC)
                self._ended.append(ended)
                _in_thread(self._accept, name, each, ended)

    def end(self) -> None:
        """Accept no more; connections end with the enclave."""
        with self._lock:
            for each in self._ended:
                os.eventfd_write(each, 1)

    def _accept(self, name: str, listener: socket.socket, ended: int) -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(ended, select.POLLIN)
        room = threading.Semaphore(MOST_CONNECTIONS)
        with listener:
            while not any(descriptor == ended for descriptor, _ in poll.poll()):
                room.acquire()
                try:
                    connection, _ = listener.accept()
                except OSError:  # gone again, or no descriptor is left
                    room.release()
                    continue
                _in_thread(self._forward, name, connection, room)
        with self._lock:
            self._ended.remove(ended)
            os.close(ended)

    def _forward(self, name: str, connection: socket.socket, room: threading.Semaphore) -> None:
        try:
            with connection, contextlib.suppress(KluisError):
                carry(connection, self._opens(name))
        finally:
            room.release()


def _in_thread(function: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, name="forwarding", daemon=True).start()
