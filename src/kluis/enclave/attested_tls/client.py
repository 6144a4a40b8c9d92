"""``httpx`` transports that verify the enclave at the other end before they send a request.

For each connection there is the TLS 1.3 handshake, a question with this side's nonce, the server's evidence,
and its judgement. Only then is the first byte of the application's request sent. A connection is kept as long
as its judge trusts the other end; then the next request opens another. Pool, keep-alive and HTTP/1.1 are
httpcore's. The certificate is ignored, because it proves nothing beyond the evidence. Spec:
:mod:`kluis.formats.kluis.attested_tls`.
"""

from __future__ import annotations

from typing import Final

import httpx

from kluis.enclave.attested_tls.pools.pooling import (
    AsyncAttestedPool,
    AsyncBody,
    AttestedPool,
    Body,
    Library,
    errors_of,
)
from kluis.enclave.attested_tls.pools.streams import attestation as attestation


class _Body(Body, httpx.SyncByteStream):
    """A response's body."""


class _AsyncBody(AsyncBody, httpx.AsyncByteStream):
    """Likewise."""


LIBRARY: Final = Library(httpx.Response, _Body, _AsyncBody, errors_of(httpx))


class AttestedTransport(AttestedPool, httpx.BaseTransport):
    """For ``httpx.Client(transport=...)``.

    The arguments and errors are those of :class:`~kluis.enclave.attested_tls.pools.pooling.AttestedPool`.
    """

    library = LIBRARY


class AsyncAttestedTransport(AsyncAttestedPool, httpx.AsyncBaseTransport):
    """For ``httpx.AsyncClient(transport=...)``; as :class:`AttestedTransport`."""

    library = LIBRARY
