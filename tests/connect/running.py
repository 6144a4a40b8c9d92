"""A proxy that runs in a thread of the test, and plain sockets to it."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kluis.connect.admission import Admission
from kluis.connect.enclave import Enclave
from kluis.connect.limits import Limits
from kluis.connect.opening import Opener
from kluis.connect.proxy import Proxy
from kluis.enclave.attested_tls.introduction import ClientEnd
from kluis.enclave.attested_tls.judge import Judge

PATIENT = Limits(open_seconds=120.0, head_seconds=120.0, idle_seconds=600.0, kept_seconds=600.0)
SECONDS = 120.0


@dataclasses.dataclass
class Running:
    """A proxy: its address, and what it reported."""

    proxy: Proxy
    loop: asyncio.AbstractEventLoop
    port: int
    reports: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        """A client's socket."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def exchange(self, *sent: bytes) -> bytes:
        """Send bytes on a new connection, and read all that comes back."""
        with self.connect() as client:
            for each in sent:
                client.sendall(each)
            return everything(client)


def everything(client: socket.socket) -> bytes:
    """All bytes until the other end closes."""
    parts = []
    while True:
        try:
            part = client.recv(1 << 16)
        except ConnectionResetError:
            part = b""
        if not part:
            return b"".join(parts)
        parts.append(part)


@contextmanager
def running(
    judge: Judge,
    port: int,
    *,
    believed_seconds: float = 3600.0,
    limits: Limits = PATIENT,
    tunnel_seconds: float = 3600.0,
    hosts: frozenset[str] = frozenset(),
    origins: frozenset[str] = frozenset(),
    token: str | None = None,
) -> Iterator[Running]:
    """Run a proxy to an enclave on a port of loopback; raises what it raises."""
    started, held, failed = threading.Event(), list[Running](), list[BaseException]()

    async def run(listener: socket.socket) -> None:
        reports: list[str] = []
        opener = Opener("127.0.0.1", port, ClientEnd(judge, None), limits.open_seconds)
        enclave = Enclave(opener, believed_seconds, limits, reports.append)
        admission = Admission(f"127.0.0.1:{port}", hosts=hosts, origins=origins, token=token)
        proxy = Proxy(enclave, admission, limits, tunnel_seconds=tunnel_seconds, report=reports.append)
        held.append(Running(proxy, asyncio.get_running_loop(), listener.getsockname()[1], reports))
        await proxy.serve(listener, started.set)

    def serve(listener: socket.socket) -> None:
        try:
            asyncio.run(run(listener))
        except BaseException as error:
            failed.append(error)
        finally:
            started.set()

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    thread = threading.Thread(target=serve, args=(listener,), daemon=True)
    thread.start()
    assert started.wait(SECONDS)
    try:
        if not failed:
            yield held[0]
    finally:
        if not failed:
            with suppress(RuntimeError):  # it has ended by itself
                held[0].loop.call_soon_threadsafe(held[0].proxy.stop)
        thread.join(SECONDS)
        assert not thread.is_alive()
    if failed:
        raise failed[0]


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, fields and body of a response."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), {name.lower(): value for name, value in fields.items()}, body
