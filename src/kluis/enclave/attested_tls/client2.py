"""``httpx2`` transports that verify the enclave at the other end before they send a request.

They do what those of :mod:`kluis.enclave.attested_tls.client` do, over the same connections.
"""

from __future__ import annotations

from typing import Final

import httpx2

from kluis.enclave.attested_tls.pools.pooling import (
    AsyncAttestedPool,
    AsyncBody,
    AttestedPool,
    Body,
    Library,
    errors_of,
)


class _Body(Body, httpx2.SyncByteStream):
    """A response's body."""


class _AsyncBody(AsyncBody, httpx2.AsyncByteStream):
    """Likewise."""


LIBRARY: Final = Library(httpx2.Response, _Body, _AsyncBody, errors_of(httpx2))


class AttestedTransport(AttestedPool, httpx2.BaseTransport):
    """For ``httpx2.Client(transport=...)``.

    The arguments and errors are those of :class:`~kluis.enclave.attested_tls.pools.pooling.AttestedPool`.
    """

    library = LIBRARY


class AsyncAttestedTransport(AsyncAttestedPool, httpx2.AsyncBaseTransport):
    """For ``httpx2.AsyncClient(transport=...)``; as :class:`AttestedTransport`."""

    library = LIBRARY
