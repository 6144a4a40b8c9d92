"""``httpx2`` transports that verify the enclave at the other end before they send a request.

They do what those of :mod:`kluis.enclave.attested_tls.client` do, over the same connections.
"""

from __future__ import annotations

import httpcore
import httpx2

from kluis.enclave.attested_tls.introduction import ClientEnd, Present
from kluis.enclave.attested_tls.judge import Judge
from kluis.enclave.attested_tls.pools.streams import AsyncBackend, Backend, require_tls
from kluis.enclave.attested_tls.pools.transport2 import LIMITS, AsyncPoolTransport, PoolTransport


class AttestedTransport(PoolTransport):
    """For ``httpx2.Client(transport=...)``.

    Args:
        judge: requirements on the server.
        present: makes this end's evidence, if it is an enclave that attests itself.
        limits: of the pool of connections.
        backend: opens connections; TCP by default.

    In addition to httpx2's own errors, a request raises the KluisError of a failed rule.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        present: Present | None = None,
        limits: httpx2.Limits = LIMITS,
        backend: httpcore.NetworkBackend | None = None,
    ) -> None:
        super().__init__(Backend(backend, ClientEnd(judge, present)), limits)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to a verified enclave.

        Raises:
            UsageError: the address does not begin with https.
        """
        require_tls(request.url.scheme)
        return super().handle_request(request)


class AsyncAttestedTransport(AsyncPoolTransport):
    """For ``httpx2.AsyncClient(transport=...)``; as :class:`AttestedTransport`."""

    def __init__(
        self,
        judge: Judge,
        *,
        present: Present | None = None,
        limits: httpx2.Limits = LIMITS,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        super().__init__(AsyncBackend(backend, ClientEnd(judge, present)), limits)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to a verified enclave.

        Raises:
            UsageError: the address does not begin with https.
        """
        require_tls(request.url.scheme)
        return await super().handle_async_request(request)
