"""``httpx`` transports that verify the enclave at the other end before they send a request.

For each connection there is the TLS 1.3 handshake, a question with this side's nonce, the server's evidence,
and its judgement. Only then is the first byte of the application's request sent. A connection is kept as long
as its judge trusts the other end; then the next request opens another. Pool, keep-alive and HTTP/1.1 are
httpcore's. The certificate is ignored, because it proves nothing beyond the evidence. Spec:
:mod:`kluis.formats.kluis.attested_tls`.
"""

from __future__ import annotations

import httpcore
import httpx

from kluis.enclave.attested_tls.introduction import ClientEnd, Present
from kluis.enclave.attested_tls.judge import Judge
from kluis.enclave.attested_tls.pools.streams import AsyncBackend, Backend, attestation, require_tls
from kluis.enclave.attested_tls.pools.transport import LIMITS, AsyncPoolTransport, PoolTransport

__all__ = ["AsyncAttestedTransport", "AttestedTransport", "attestation"]


class AttestedTransport(PoolTransport):
    """For ``httpx.Client(transport=...)``.

    Args:
        judge: requirements on the server.
        present: makes this end's evidence, if it is an enclave that attests itself.
        limits: of the pool of connections.
        backend: opens connections; TCP by default.

    In addition to httpx's own errors, a request raises the KluisError of a failed rule.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        present: Present | None = None,
        limits: httpx.Limits = LIMITS,
        backend: httpcore.NetworkBackend | None = None,
    ) -> None:
        super().__init__(Backend(backend, ClientEnd(judge, present)), limits)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to a verified enclave.

        Raises:
            UsageError: the address does not begin with https.
        """
        require_tls(request.url.scheme)
        return super().handle_request(request)


class AsyncAttestedTransport(AsyncPoolTransport):
    """For ``httpx.AsyncClient(transport=...)``; as :class:`AttestedTransport`."""

    def __init__(
        self,
        judge: Judge,
        *,
        present: Present | None = None,
        limits: httpx.Limits = LIMITS,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        super().__init__(AsyncBackend(backend, ClientEnd(judge, present)), limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to a verified enclave.

        Raises:
            UsageError: the address does not begin with https.
        """
        require_tls(request.url.scheme)
        return await super().handle_async_request(request)
