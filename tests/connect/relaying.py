"""What may stand between a proxy and its enclave: a cable that can be moved, and a man in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kluis.enclave.attested_tls.link import make_certificate

T = TypeVar("T")


class Switch:
    """Forwards bytes of TCP to a port, which can be changed; None refuses connections.

    One event loop, in one thread, owns every connection: a TLS connection must not be used from two threads.

    Attributes:
        port: where it listens.
        target: where new connections lead.
    """

    def __init__(self, target: int | None, inside: ssl.SSLContext | None = None) -> None:
        self.target = target
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=inside))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """End the connections that are open."""
        self._run(self._cut())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _cut(self) -> None:
        for connection in self._connections:
            connection.transport.abort()
        self._connections.clear()

    async def _end(self) -> None:
        self._server.close()
        # A connection that was just accepted starts another task, and each task reads its connection's end.
        for _ in range(600):
            await self._cut()
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            if not rest:
                break
            await asyncio.wait(rest, timeout=0.1)
        await asyncio.sleep(0)  # the transports close their sockets

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with contextlib.suppress(OSError), contextlib.closing(writer):
            await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._forward(reader, writer, None, lambda _: None)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        outer: ssl.SSLContext | None,
        heard: Callable[[bytes], None],
    ) -> None:
        """Forward both ways until one end closes."""
        if self.target is None:
            return
        far_reader, far = await asyncio.open_connection("127.0.0.1", self.target, ssl=outer)
        self._connections.add(far)
        with contextlib.closing(far):
            ways = {
                asyncio.ensure_future(_pump(reader, far, heard)),
                asyncio.ensure_future(_pump(far_reader, writer, lambda _: None)),
            }
            _, open_ways = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in open_ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


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
        inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            pem = Path(folder) / "pem"
            pem.write_bytes(
                key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                + certificate.public_bytes(Encoding.PEM)
            )
            inside.load_cert_chain(pem)
        super().__init__(target, inside)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.answer is not None:
            request = await reader.read(1 << 16)
            self.heard.append(request)
            writer.write(self.answer(request))
            await writer.drain()
            return
        outer = ssl.create_default_context()
        outer.check_hostname, outer.verify_mode = False, ssl.CERT_NONE
        await self._forward(reader, writer, outer, self.heard.append)


async def _pump(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, heard: Callable[[bytes], None]
) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            heard(data)
            sink.write(data)
            await sink.drain()
