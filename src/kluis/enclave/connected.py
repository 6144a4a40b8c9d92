"""An attested client inside an enclave, over a connected socket from the host.

transport = AttestedTransport(judge, present=attest_self, backend=Granted("connect:records"))
client = httpx.Client(transport=transport)

The host carries ciphertext, and may have connected the socket to anyone: the evidence identifies the peer,
not the address.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

from kluis.enclave.grants import granted_socket


class Granted(httpcore.NetworkBackend):
    """Connects once, with a granted socket; for another connection the host must provide another socket.

    Args:
        grant: such as ``connect:records``.
    """

    def __init__(self, grant: str) -> None:
        self._grant = grant

    def connect_tcp(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        """Take the socket, whatever the address.

        Raises:
            PolicyError, UsageError: as for :func:`kluis.enclave.grants.granted_socket`; also the second time.
        """
        return _Stream(granted_socket(self._grant))


class _Stream(httpcore.NetworkStream):
    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _told_as(httpcore.ReadTimeout, httpcore.ReadError):
            self._end.settimeout(timeout)
            return self._end.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _told_as(httpcore.WriteTimeout, httpcore.WriteError):
            self._end.settimeout(timeout)
            self._end.sendall(buffer)

    def close(self) -> None:
        self._end.close()

    def get_extra_info(self, info: str) -> Any:
        if info != "is_readable":
            return self._end if info == "socket" else None
        look = select.poll()
        try:
            look.register(self._end, select.POLLIN)
            return bool(look.poll(0))
        except (OSError, ValueError):  # it is closed
            return True


@contextmanager
def _told_as(late: type[Exception], failed: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except OSError as error:
        raise failed(str(error)) from error
