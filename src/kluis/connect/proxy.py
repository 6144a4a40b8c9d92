"""The proxy: listens on loopback, keeps its enclave verified, and ends what takes too long."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

from kluis.connect.admission import Admission
from kluis.connect.client import Client, State
from kluis.connect.enclave import Enclave
from kluis.connect.limits import Limits
from kluis.enclave.attested_tls.judge import elapsed

LOOK_SECONDS: Final = 0.5


class Proxy:
    """Forwards its clients' requests to a verified enclave.

    Attributes:
        enclave: that requests go to.
        admission: which requests do.
        limits: for clients.
        draining: whether it stops.

    Args:
        enclave: that requests go to.
        admission: which requests do.
        limits: for clients.
        tunnel_seconds: how long a WebSocket may last: its judgement ages meanwhile.
        report: receives what happened, for the log: a sentence.
    """

    def __init__(
        self,
        enclave: Enclave,
        admission: Admission,
        limits: Limits,
        *,
        tunnel_seconds: float,
        report: Callable[[str], None],
    ) -> None:
        self.enclave = enclave
        self.admission = admission
        self.limits = limits
        self.draining = False
        self._tunnel_seconds = tunnel_seconds
        self._report = report
        self._clients: dict[Client, None] = {}  # the oldest first
        self._stop = asyncio.Event()

    def join(self, client: Client) -> bool:
        """Count a new client; False if there are too many.

        The oldest one of which no request was admitted gives way: another user has no token, and could take
        every place without sending anything.
        """
        if len(self._clients) >= self.limits.connections:
            waiting = (each for each in self._clients if not each.admitted and each.state is State.HEAD)
            if (oldest := next(waiting, None)) is not None:
                oldest.abort()
                self.leave(oldest)
        self._clients[client] = None
        return len(self._clients) <= self.limits.connections

    def leave(self, client: Client) -> None:
        """Forget a client that is gone."""
        self._clients.pop(client, None)

    def stop(self) -> None:
        """Accept no more clients, and return from :meth:`serve`."""
        self._stop.set()

    async def serve(self, listener: socket.socket, ready: Callable[[], None]) -> None:
        """Verify the enclave, then forward until :meth:`stop`.

        Args:
            listener: listens on loopback; closed at the end.
            ready: called once the enclave is verified, before the first client is accepted.

        Raises:
            KluisError: the enclave cannot be verified.
        """
        loop = asyncio.get_running_loop()
        try:
            first = asyncio.ensure_future(self.enclave.connect())
            stopped = asyncio.ensure_future(self._stop.wait())
            try:
                await asyncio.wait({first, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not first.done():
                    return
                self.enclave.give_back(first.result())
            finally:
                first.cancel()
                stopped.cancel()
            server = await loop.create_server(lambda: Client(self), sock=listener, start_serving=False)
            ready()
            await server.start_serving()
            tasks = [asyncio.create_task(self.enclave.keep_verified()), asyncio.create_task(self._look())]
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            server.close()
            await self._drain()
            ended = [task for task in tasks if task.done()]
            for task in (stopped, *tasks):
                task.cancel()
            await asyncio.gather(stopped, *tasks, return_exceptions=True)
            for task in ended:  # neither ends by itself: a proxy without them must not go on
                task.result()
        finally:
            listener.close()
            self.enclave.close()

    async def _drain(self) -> None:
        """Let requests that are under way finish, for a time."""
        self.draining = True
        loop = asyncio.get_running_loop()
        end = loop.time() + self.limits.drain_seconds
        for client in list(self._clients):
            if client.between_requests or client.state is State.TUNNEL:
                client.close()
        while self._clients and loop.time() < end:
            await asyncio.sleep(0.02)
        for client in list(self._clients):
            client.abort()
        await asyncio.sleep(0)

    async def _look(self) -> None:
        """End what takes too long."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = loop.time()
            self.enclave.look(now)
            for client in list(self._clients):
                with contextlib.suppress(OSError):
                    self._look_at(client, now)

    def _look_at(self, client: Client, now: float) -> None:
        limits, upstream = self.limits, client.upstream
        stalls = [client.stalled, upstream.stalled if upstream is not None else None]
        if any(since is not None and now - since > limits.stall_seconds for since in stalls):
            client.abort()
        elif client.state is State.HEAD:
            if client.between_requests:
                if now - client.since > limits.idle_seconds:
                    client.close()
            elif now - client.since > limits.head_seconds:
                client.late()
        elif client.state is State.ENDED:
            if now - client.since > limits.stall_seconds:
                client.abort()
        elif client.state is State.TUNNEL and upstream is not None:
            judged = upstream.until - self.enclave.believed_seconds
            if self.enclave.refused or elapsed() - judged > self._tunnel_seconds:
                self._report("a WebSocket was closed: its enclave's verdict expired")
                client.close()
