"""A malicious host that can send anything on both sockets of a running enclave."""

from __future__ import annotations

import array
import select
import socket
from collections.abc import Sequence
from typing import Any

import msgspec

from kluis.enclave.boundary import frames
from kluis.enclave.boundary.interface import Signature
from kluis.host.interface import Interface
from kluis.tee.backend import Running


class EvilHost:
    """Sends arbitrary messages to an enclave, and receives its answers.

    Args:
        process: started, and ready.
        interface: of the enclave.
    """

    def __init__(self, process: Running, interface: Interface) -> None:
        self.process = process
        self.interface = interface
        self.calls: socket.socket = process.calls
        self.control: socket.socket = process.control

    def number(self, name: str) -> int:
        """The number of an ecall."""
        return self._index(self.interface.ecalls, name)

    def say(self, data: bytes) -> None:
        """Send one datagram on the calls socket."""
        self.calls.send(data)

    def whisper(self, data: bytes, files: Sequence[int] = ()) -> None:
        """Send one datagram on the control socket, with descriptors."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        self.control.sendmsg([data], rights)

    def hear(self, timeout_seconds: float = 120.0) -> list[Any] | None:
        """The next answer, decoded; None if none comes in time or the enclave has ended."""
        if not _readable(self.calls, timeout_seconds):
            return None
        try:
            data = self.calls.recv(frames.INLINE)
        except OSError:
            return None
        if data == frames.LARGE:
            parcel = frames.receive_parcel(self.control, 1 << 30)
            data = bytes(parcel.frame) if parcel is not None else b""
            if parcel is not None:
                parcel.close()
        heard: list[Any] | None = msgspec.msgpack.decode(data) if data else None
        return heard

    def ends_within(self, timeout_seconds: float = 120.0) -> bool:
        """Whether the enclave ends within the time."""
        return self.process.wait(timeout_seconds) is not None

    def close(self) -> None:
        """End the enclave."""
        self.process.kill()
        self.process.wait(5)

    @staticmethod
    def _index(signatures: Sequence[Signature], name: str) -> int:
        return next(i for i, one in enumerate(signatures) if one.name == name)


def _readable(sock: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
