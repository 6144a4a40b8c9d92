"""The enclave's session with its platform: one handshake before any application code, then encrypted
requests.

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
    """The platform closed the session, or sent an unexpected frame: this enclave can no longer attest
    itself.
    """

    code = "platform_gone"


class Session:
    """This enclave's session with its platform; safe to use from several threads.

    Args:
        sock: SOCK_SEQPACKET, to the platform; owned by the session.
        sealed: the channel from the handshake.
    """

    def __init__(self, sock: socket.socket, sealed: channel.Channel) -> None:
        self._sock = sock
        self._channel = sealed
        self._turn = threading.Lock()
        self._lost = False

    @classmethod
    def initiate(cls, sock: socket.socket, named: int, public_key: bytes) -> Self:
        """Do the handshake; the platform accepts one for each launch.

        Args:
            sock: to the platform.
            named: the descriptor of an unnamed Unix socket; closed here. It is bound to a name from the hello
                and the platform's challenge, listens, and is sent to the platform, to which the kernel shows
                both the listener and the name.
            public_key: the platform's for this launch, 32 bytes.

        Raises:
            PlatformGone: the platform closed the session, another process has bound the socket, or another
                process answered.
            FormatError: its answer is not a handshake.
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
        """Send one request to the platform.

        Args:
            message: the request.
            want: the type of the answer.

        Raises:
            PlatformGone: the session is over; the enclave must end.
            KluisError: the platform refuses, with the class of its error.
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
