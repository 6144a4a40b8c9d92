"""Serves connections on a granted socket, and has one of its own."""

from __future__ import annotations

import socket
import threading

from kluis.enclave import Enclave, granted_socket

app = Enclave("granted")


@app.ecall
def serve(connections: int) -> None:
    """Answer connections with what they sent, in capitals, once they have sent all."""
    with granted_socket("listen:web") as listener:
        threads = []
        for _ in range(connections):
            peer, _ = listener.accept()
            threads.append(threading.Thread(target=_answer, args=(peer,)))
            threads[-1].start()
        for thread in threads:
            thread.join()


def _answer(peer: socket.socket) -> None:
    with peer:
        data = b""
        while more := peer.recv(1 << 16):
            data += more
        peer.sendall(data.upper())


@app.ecall
def fetch(name: bytes) -> bytes:
    """Ask the store."""
    with granted_socket("connect:store") as store:
        store.sendall(name)
        return store.recv(1 << 16)
