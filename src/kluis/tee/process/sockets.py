"""Check the sockets that a host passes to an enclave, which cannot create sockets itself.

The manifest grants each by name: ``listen:NAME`` for a listening one, ``connect:NAME`` for a connected one.
The host opens it; the enclave accepts on it, sends and receives, and ends its TLS inside.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Sequence

from kluis.errors import PolicyError, UsageError
from kluis.tee.process.sandbox import MOST_GRANTED

FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_VSOCK)
ENDS = 2


def check(granted: Sequence[tuple[str, int]], grants: frozenset[str]) -> None:
    """Refuse sockets that the manifest does not grant, or of another kind than granted.

    Args:
        granted: grant and descriptor of each.
        grants: the manifest's.

    Raises:
        PolicyError: the manifest does not grant this name.
        UsageError: not a stream socket, a listening one instead of a connected one, or too many.
    """
    names = [name for name, _ in granted]
    if len(granted) > MOST_GRANTED or len(set(names)) != len(names):
        raise UsageError(f"launch: sockets: want at most {MOST_GRANTED}, each name once, got {len(granted)}")
    for name, descriptor in granted:
        if name not in grants or not name.startswith(("listen:", "connect:")):
            raise PolicyError(
                f"launch: socket {name[:80]!r}: the image grants no such name",
                hint='add it to grants in kluis.toml, for example grants = ["listen:web"]',
                code="not_granted",
            )
        _check_kind(name, descriptor)


def check_streams(descriptors: Sequence[int]) -> None:
    """Refuse streams for calls that are not two connected sockets or ports.

    Raises:
        UsageError: another number of them, or another kind of descriptor.
    """
    if len(descriptors) not in {0, ENDS}:
        raise UsageError(f"launch: streams: want {ENDS}, for calls and control, got {len(descriptors)}")
    for descriptor in descriptors:
        if not stat.S_ISCHR(os.fstat(descriptor).st_mode) and not _is_stream(descriptor, listens=False):
            raise UsageError(
                "launch: streams: want connected stream sockets or ports, got another descriptor"
            )


def _check_kind(name: str, descriptor: int) -> None:
    wanted = name.startswith("listen:")
    if not _is_stream(descriptor, listens=wanted):
        kind = "a listening" if wanted else "a connected"
        raise UsageError(f"launch: socket {name}: want {kind} stream socket, got another kind of descriptor")


def _is_stream(descriptor: int, *, listens: bool) -> bool:
    duplicate = os.dup(descriptor)
    try:
        end = socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        return False
    with end:
        if end.type != socket.SOCK_STREAM or end.family not in FAMILIES:
            return False
        return bool(end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) == listens
