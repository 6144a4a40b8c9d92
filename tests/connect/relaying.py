"""What may stand between a proxy and its enclave: a cable that can be moved, and a man in the middle."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kluis.enclave.attested_tls.link import make_certificate


class Switch:
    """Forwards bytes of TCP to a port, which can be changed; None refuses connections.

    Attributes:
        port: where it listens.
        target: where new connections lead.
    """

    def __init__(self, target: int | None) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End the connections that are open."""
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        if self.target is None:
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        self._ends += [near, far]
        _both_ways(near, far, lambda _: None)


class Middle(Switch):
    """Ends TLS itself, with a certificate of its own, and speaks TLS to the enclave.

    Attributes:
        heard: every plain byte that its clients sent.
        answer: what to send instead of the enclave's answer, given what was sent; None to forward it.
    """

    def __init__(self, target: int | None) -> None:
        self.heard: list[bytes] = []
        self.answer: Callable[[bytes], bytes] | None = None
        key, certificate = make_certificate()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            pem = Path(folder) / "pem"
            pem.write_bytes(
                key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                + certificate.public_bytes(Encoding.PEM)
            )
            self._context.load_cert_chain(pem)
        super().__init__(target)

    def _serve(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            tls = self._context.wrap_socket(near, server_side=True)
            self._ends.append(tls)
            if self.answer is not None:
                said = tls.recv(1 << 16)
                self.heard.append(said)
                tls.sendall(self.answer(said))
                return
            outer = ssl.create_default_context()
            outer.check_hostname, outer.verify_mode = False, ssl.CERT_NONE
            far = outer.wrap_socket(socket.create_connection(("127.0.0.1", self.target or 0)))
            self._ends.append(far)
            _both_ways(tls, far, self.heard.append)


def _both_ways(near: socket.socket, far: socket.socket, heard: Callable[[bytes], None]) -> None:
    """Forward until one end closes."""

    def pump(source: socket.socket, sink: socket.socket, note: Callable[[bytes], None]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                note(data)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    back = threading.Thread(target=pump, args=(far, near, lambda _: None), daemon=True)
    back.start()
    pump(near, far, heard)
    back.join()
    near.close()
    far.close()
