"""How much a client may take of a server inside an enclave: sizes, and seconds of waiting."""

from __future__ import annotations

from kluis.frozen import frozen


@frozen(kw_only=True)
class Limits:
    """What clients may take.

    Attributes:
        connections: at once; more wait in the kernel's queue, until one ends or has waited for its client
            for a second.
        head_bytes: of one request's line and headers.
        body_bytes: of one request.
        handshake_seconds: for the TLS handshake.
        head_seconds: for a request's line and headers, from their first byte.
        stall_seconds: for the next piece of a body that comes, or of an answer that goes.
        slowest_body: bytes a second that a body comes at, over all the time that it is waited for beyond
            ``stall_seconds``.
        idle_seconds: between requests of one connection, and before its first.
    """

    connections: int = 1000
    head_bytes: int = 32 << 10
    body_bytes: int = 64 << 20
    handshake_seconds: float = 10.0
    head_seconds: float = 10.0
    stall_seconds: float = 30.0
    slowest_body: int = 240
    idle_seconds: float = 30.0
