"""The application that serves inside, as a rehearsed enclave runs it."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

from kluis.host.proxy import EnclaveProxy

APP = Path(__file__).parent / "web.py"


class Served:
    """A running service: its address, its enclave, and its listening socket."""

    def __init__(self, enclave: EnclaveProxy, listener: socket.socket) -> None:
        self.enclave = enclave
        self.listener = listener
        self.port: int = listener.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.ended = enclave.submit("serve")

    def plain_tls(self) -> ssl.SSLSocket:
        """A client of Python's own, which requests no evidence."""
        return plain_tls(self.port)

    def shaken_in_time(self) -> ssl.SSLSocket:
        """The same, of a service that waits two seconds for a handshake: a slow machine may need several."""
        for _ in range(60):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                return self.plain_tls()
        raise AssertionError("want a machine that shakes hands in two seconds, now and then")

    def holds(self, client: socket.socket) -> bool:
        """Whether the service's end of a client's connection is open, as the kernel's table has it."""
        ends = [f"0100007F:{port:04X}" for port in (self.port, client.getsockname()[1])]
        lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
        return any(line[1:4] == [*ends, "01"] for line in lines)  # 01: ESTABLISHED


def plain_tls(port: int) -> ssl.SSLSocket:
    """A client of Python's own, of any service here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    raw = socket.create_connection(("127.0.0.1", port), timeout=120)
    return context.wrap_socket(raw)
