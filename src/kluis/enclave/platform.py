"""The enclave's session with its platform: one handshake before any application code, then encrypted
requests.

Spec: :mod:`kluis.formats.kluis.channel`.
"""

from __future__ import annotations

import _socket as socket
import contextlib
import threading
from typing import TYPE_CHECKING, Self

from kluis.enclave.attester import T, nothing
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

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


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
        # The loop whose coroutines wait without a thread, and the lock by which they take turns.
        self._home: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._choosing = threading.Lock()
        self._awaited: _Awaited | None = None
        self._watching: asyncio.AbstractEventLoop | None = None  # it calls _take when there is a frame

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

    def request(self, message: channel.Request, want: type[T], meanwhile: Callable[[], None] = nothing) -> T:
        """Send one request to the platform.

        Args:
            message: the request.
            want: the type of the answer.
            meanwhile: as in :meth:`kluis.enclave.attester.Attester.request`.

        Raises:
            PlatformGone: the session is over; the enclave must end.
            KluisError: the platform refuses, with the class of its error.
        """
        with self._turn:
            self._settle()
            self._send(message)
            meanwhile()
            reply = self._receive()
        return _expect(reply, want)

    async def request_async(self, message: channel.Request, want: type[T]) -> T:
        """As :meth:`request`, from a coroutine: its event loop goes on until the platform answers.

        Meanwhile :meth:`request` may be called in any thread, also in the loop's own: it receives this
        request's answer first, and passes it on. Of several loops, one waits for the socket; the others have
        a thread wait.
        """
        import asyncio

        loop, awaited = asyncio.get_running_loop(), None
        if (turn := self._turn_in(loop, asyncio.Lock)) is not None:
            async with turn:
                awaited = self._begin(message, loop)
                if awaited is not None:
                    await self._wait(awaited)
        if awaited is None:
            return await asyncio.to_thread(self.request, message, want)
        if awaited.reply is None:
            raise PlatformGone("platform: the session is over")
        return _expect(awaited.reply, want)

    def _turn_in(
        self, loop: asyncio.AbstractEventLoop, make: Callable[[], asyncio.Lock]
    ) -> asyncio.Lock | None:
        """The lock of the loop's coroutines; None if those of another loop wait for the socket."""
        known = self._home
        if known is None or known[0] is not loop:
            with self._choosing:
                if self._home is None or self._home[0].is_closed():
                    self._home = loop, make()
                known = self._home
        home, turn = known
        return turn if home is loop else None

    def _begin(self, message: channel.Request, loop: asyncio.AbstractEventLoop) -> _Awaited | None:
        """Send a coroutine's request; None if another thread, or a loop that ended, has sent one before."""
        if not self._turn.acquire(blocking=False):
            return None
        try:
            if self._awaited is not None:
                return None
            self._send(message)
            self._awaited = awaited = _Awaited(loop)
        finally:
            self._turn.release()
        if self._watching is not loop:
            self._unwatch()
            loop.add_reader(self._sock, self._take)
            self._watching = loop
        return awaited

    def _take(self) -> None:
        """Receive the answer that a coroutine waits for; called in its loop once the socket has a frame."""
        if not self._turn.acquire(blocking=False):
            return  # another thread requests something, and receives what is here
        try:
            awaited, self._awaited = self._awaited, None
            if awaited is None:
                self._unwatch()
                return
            try:
                awaited.reply = self._receive()
            except PlatformGone:  # the coroutine has no answer then
                awaited.reply = None
            awaited.wake()
        finally:
            self._turn.release()

    def _unwatch(self) -> None:
        if self._watching is not None and not self._watching.is_closed():
            self._watching.remove_reader(self._sock)
        self._watching = None

    async def _wait(self, awaited: _Awaited) -> None:
        try:
            await awaited.ready
        finally:  # also if this is cancelled: the next request must not receive this one's answer
            if awaited.reply is None:
                with self._turn:
                    if self._awaited is awaited:
                        self._settle()

    def _settle(self) -> None:
        """Receive the answer that a coroutine waits for, if one does."""
        awaited, self._awaited = self._awaited, None
        if awaited is None:
            return
        try:
            awaited.reply = self._receive()
        finally:
            awaited.settle()

    def _send(self, message: channel.Request) -> None:
        if self._lost:
            raise PlatformGone("platform: the session is over")
        try:
            self._sock.send(self._channel.seal_request(message))
        except (OSError, FormatError) as error:
            self._lost = True
            raise PlatformGone(f"platform: {error}") from None

    def _receive(self) -> channel.Reply:
        try:
            frame = self._sock.recv(channel.MAX_FRAME + 1)
            if frame:
                return self._channel.open_reply(frame)
        except (OSError, AuthenticityError, FormatError) as error:
            self._lost = True
            raise PlatformGone(f"platform: {error}") from None
        self._lost = True
        raise PlatformGone("platform: hung up")


class _Awaited:
    """The answer that a coroutine waits for.

    Attributes:
        loop: of the coroutine.
        ready: done when its answer was received, by its loop or by another request.
        reply: None until then, or if the session has ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ready: asyncio.Future[None] = loop.create_future()
        self.reply: channel.Reply | None = None

    def wake(self) -> None:
        """Let the coroutine go on; called in its loop."""
        if not self.ready.done():
            self.ready.set_result(None)

    def settle(self) -> None:
        """Let the coroutine go on; called in any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self.wake)


def _expect(reply: channel.Reply, want: type[T]) -> T:
    if isinstance(reply, channel.Refused):
        raise REFUSALS.get(reply.code, PolicyError)(reply.message, code=reply.code)
    if not isinstance(reply, want):
        raise PlatformGone(f"platform: want {want.__name__.lower()}, got {type(reply).__name__.lower()}")
    return reply


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
