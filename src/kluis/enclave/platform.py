"""The inside view of the platform: one handshake before any application code, then sealed requests.

Spec: :mod:`kluis.formats.kluis.channel`.
"""

from __future__ import annotations

import _socket as socket
import threading
from typing import Self

from kluis.enclave.attester import T
from kluis.errors import (
    AuthenticityError,
    EnclaveError,
    FormatError,
    KluisError,
    PolicyError,
    UnavailableError,
    UsageError,
)
from kluis.formats.kluis import channel


class PlatformGone(EnclaveError):
    """The platform hung up, or what came was not its next frame: this enclave can prove nothing more."""

    code = "platform_gone"


class Session:
    """This enclave's session with its platform; safe to use from several threads.

    Args:
        sock: SOCK_SEQPACKET, to the platform; becomes the session's.
        sealed: the channel that the handshake made.
    """

    def __init__(self, sock: socket.socket, sealed: channel.Channel) -> None:
        self._sock = sock
        self._channel = sealed
        self._turn = threading.Lock()
        self._lost = False

    @classmethod
    def initiate(cls, sock: socket.socket, named: int, public_key: bytes) -> Self:
        """Do the handshake; the platform accepts one a launch.

        Args:
            sock: to the platform.
            named: a Unix socket without a name, a descriptor; closed here. It is named after the hello and
                the platform's challenge, listened on, and goes to the platform, which the kernel shows both:
                who listens, and the name.
            public_key: the platform's for this launch, 32 bytes.

        Raises:
            PlatformGone: the platform hung up, another process has named the socket, or another answered.
            FormatError: its answer is no handshake.
        """
        offer = channel.Offer()
        try:
            sock.send(channel.READY)
            challenge = sock.recv(channel.CHALLENGE_SIZE)
            _send_hello(sock, named, offer.hello, challenge)
            answer = sock.recv(channel.MAX_FRAME)
        except OSError:
            answer = b""
        if not answer:
            raise PlatformGone("platform: hung up before the handshake")
        try:
            return cls(sock, offer.accept(answer, public_key))
        except AuthenticityError as error:
            raise PlatformGone(error.message, code=error.code) from None

    def request(self, message: channel.Request, want: type[T]) -> T:
        """Ask the platform one thing.

        Args:
            message: the request.
            want: the kind of answer that belongs to it.

        Raises:
            PlatformGone: the session is over; the enclave must end.
            KluisError: the platform refuses; the class says why.
        """
        with self._turn:
            reply = self._exchange(message)
        if isinstance(reply, channel.Refused):
            raise REFUSALS.get(reply.code, PolicyError)(reply.message, code=reply.code)
        if not isinstance(reply, want):
            raise PlatformGone(f"platform: want {want.__name__.lower()}, got {type(reply).__name__.lower()}")
        return reply

    def _exchange(self, message: channel.Request) -> channel.Reply:
        if self._lost:
            raise PlatformGone("platform: the session is over")
        try:
            self._sock.send(self._channel.seal_request(message))
            frame = self._sock.recv(channel.MAX_FRAME + 1)
            if frame:
                return self._channel.open_reply(frame)
        except (OSError, AuthenticityError, FormatError) as error:
            self._lost = True
            raise PlatformGone(f"platform: {error}") from None
        self._lost = True
        raise PlatformGone("platform: hung up")


def _send_hello(sock: socket.socket, named: int, hello: bytes, challenge: bytes) -> None:
    proof = socket.socket(fileno=named)
    try:
        proof.bind(channel.proof_name(hello, challenge))
        proof.listen(0)
        sock.sendmsg([hello], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, named.to_bytes(4, "little"))])
    finally:
        proof.close()


REFUSALS: dict[str, type[KluisError]] = {
    "usage": UsageError,
    "malformed": FormatError,
    "unavailable": UnavailableError,
    "not_authentic": AuthenticityError,
}
