"""Check the sockets that a host passes to an enclave, which cannot create sockets itself.

The manifest grants each by name: ``listen:NAME`` for a listening one, ``connect:NAME`` for a connected one.
The host opens it; the enclave accepts on it, sends and receives, and ends its TLS inside.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from kluis.errors import PolicyError, UsageError
from kluis.tee.process.sandbox import MOST_GRANTED

FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


def check(given: Sequence[tuple[str, int]], grants: frozenset[str]) -> None:
    """Refuse sockets that the manifest does not grant, or of another kind than granted.

    Args:
        given: grant and descriptor of each.
        grants: the manifest's.

    Raises:
        PolicyError: the manifest does not grant this name.
        UsageError: not a stream socket, a listening one instead of a connected one, or too many.
    """
    names = [name for name, _ in given]
    if len(given) > MOST_GRANTED or len(set(names)) != len(names):
        raise UsageError(f"launch: sockets: want at most {MOST_GRANTED}, each name once, got {len(given)}")
    for name, descriptor in given:
        if name not in grants or not name.startswith(("listen:", "connect:")):
            raise PolicyError(
                f"launch: socket {name[:80]!r}: the image grants no such name",
                hint='add it to grants in kluis.toml, for example grants = ["listen:web"]',
                code="not_granted",
            )
        _check_kind(name, descriptor)


def _check_kind(name: str, descriptor: int) -> None:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as end:
            stream = end.type == socket.SOCK_STREAM and end.family in FAMILIES
            listens = bool(end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        stream = listens = False
    wanted = name.startswith("listen:")
    if not stream or listens != wanted:
        kind = "a listening" if wanted else "a connected"
        raise UsageError(f"launch: socket {name}: want {kind} stream socket, got another kind of descriptor")
