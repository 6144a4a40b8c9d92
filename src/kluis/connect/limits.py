"""How much the clients of a proxy may take, and how long it waits for them and for the enclave."""

from __future__ import annotations

from kluis.frozen import frozen


@frozen(kw_only=True)
class Limits:
    """Sizes, and seconds of waiting.

    Attributes:
        connections: of clients at once; one more is answered with 503.
        head_bytes: of a request's or a response's first line and fields.
        open_seconds: for a connection to the enclave: TCP, TLS, evidence and its judgement.
        head_seconds: for a request's first line and fields, from their first byte.
        stall_seconds: for a receiver that does not read what was sent.
        idle_seconds: between two requests of a client.
        kept_seconds: for a connection to the enclave that no request uses.
        kept_connections: to the enclave, that no request uses.
        retry_seconds: between two attempts to verify an enclave that was refused or unreachable.
        drain_seconds: for requests that are under way when the proxy stops.
    """

    connections: int = 256
    head_bytes: int = 32 << 10
    open_seconds: float = 30.0
    head_seconds: float = 10.0
    stall_seconds: float = 60.0
    idle_seconds: float = 60.0
    kept_seconds: float = 15.0
    kept_connections: int = 20
    retry_seconds: float = 5.0
    drain_seconds: float = 5.0
