"""Parse what ``kluis ledger up`` takes as numbers."""

from __future__ import annotations

from typing import Final

from kluis.errors import UsageError

MOST_WITNESS_SECONDS: Final = 60
"""As the node accepts it; refused here before an enclave is started."""


def seconds(text: str) -> float:
    """Parse the time between two records of the witness.

    Raises:
        UsageError: it is not a number of seconds, or too long.
    """
    try:
        number = float(text.removesuffix("s"))
    except ValueError:
        number = -1.0
    if not 0 <= number <= MOST_WITNESS_SECONDS:  # nor nan
        most = MOST_WITNESS_SECONDS
        raise UsageError(f"--witness-every: want seconds up to {most}, such as 1s, got {text[:40]!a}")
    return number


def first_port(port: int) -> int:
    """The port of the first service, so that the ledger, the last one, has ``port``; 0 for free ones.

    Raises:
        UsageError: the services before the ledger would have no port.
    """
    from kluis.serve.plan import ORDER

    least = ORDER.index("ledger") + 1
    if port and port < least:
        raise UsageError(f"--port: want 0, or {least} and more, got {port}")
    return port and port - ORDER.index("ledger")
