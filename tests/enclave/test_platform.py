"""The inside view of the platform's session: answers in order, or an end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from kluis.enclave.platform import PlatformGone, Session
from kluis.errors import FormatError, PolicyError, UnavailableError, UsageError
from kluis.formats.kluis import channel


def unnamed() -> int:
    """A Unix socket without a name, as the guardian leaves one."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).detach()


Serve = Callable[[Callable[[socket.socket], None]], socket.socket]


@pytest.fixture
def platform() -> Iterator[Serve]:
    """Runs a platform's side in a thread, and gives the enclave's end."""
    threads: list[threading.Thread] = []

    def serve(side: Callable[[socket.socket], None]) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def run() -> None:
            with theirs:
                side(theirs)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return ours

    yield serve
    for thread in threads:
        thread.join(300)


OF_THE_LAUNCH = channel.Answer()


def answering(
    *replies: channel.Reply | bytes, answer: channel.Answer = OF_THE_LAUNCH
) -> Callable[[socket.socket], None]:
    """A platform that gives these replies; bytes are sent unchanged."""

    def side(sock: socket.socket) -> None:
        assert sock.recv(channel.MAX_FRAME) == channel.READY
        sock.send(bytes(channel.CHALLENGE_SIZE))
        sealed = answer.to(sock.recv(channel.MAX_FRAME))
        sock.send(answer.hello)
        for reply in replies:
            sealed.open_request(sock.recv(channel.MAX_FRAME + 1))
            sock.send(reply if isinstance(reply, bytes) else sealed.seal_reply(reply))

    return side


def test_question_and_answer(platform: Serve) -> None:
    """A request gets the kind of answer that belongs to it."""
    with platform(answering(channel.Bytes(b"t"), channel.Count(3, "nobody"))) as sock:
        session = Session.initiate(sock, unnamed(), OF_THE_LAUNCH.public_key)
        assert session.request(channel.TargetInfo(), channel.Bytes).value == b"t"
        assert session.request(channel.Counter(bytes(32), "read"), channel.Count).value == 3


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("usage", UsageError),
        ("malformed", FormatError),
        ("unavailable", UnavailableError),
        ("seal_svn", PolicyError),
    ],
)
def test_refusals(platform: Serve, code: str, kind: type[Exception]) -> None:
    """A refusal is raised as the error that it is, and the session goes on."""
    with platform(answering(channel.Refused(code, "no"), channel.Bytes(b"t"))) as sock:
        session = Session.initiate(sock, unnamed(), OF_THE_LAUNCH.public_key)
        with pytest.raises(kind, match=r"^no$"):
            session.request(channel.TargetInfo(), channel.Bytes)
        assert session.request(channel.TargetInfo(), channel.Bytes).value == b"t"


def test_answer_of_another_kind(platform: Serve) -> None:
    """An answer that does not belong to the request ends the trust in the session."""
    with platform(answering(channel.Truth(True))) as sock:
        session = Session.initiate(sock, unnamed(), OF_THE_LAUNCH.public_key)
        with pytest.raises(PlatformGone, match=r"^platform: want bytes, got truth$"):
            session.request(channel.TargetInfo(), channel.Bytes)


def test_frame_that_is_not_the_sessions(platform: Serve) -> None:
    """A frame that the platform did not seal ends the session, for every later request too."""
    with platform(answering(bytes(60))) as sock:
        session = Session.initiate(sock, unnamed(), OF_THE_LAUNCH.public_key)
        for message in (
            "platform: channel frame: not the next frame of this session",
            "platform: the session is over",
        ):
            with pytest.raises(PlatformGone) as gone:
                session.request(channel.TargetInfo(), channel.Bytes)
            assert gone.value.message == message
        sock.shutdown(socket.SHUT_RDWR)


def test_hangs_up(platform: Serve) -> None:
    """A platform that is gone is reported as such, before the handshake and after."""
    with platform(lambda sock: sock.close()) as sock, pytest.raises(PlatformGone):
        Session.initiate(sock, unnamed(), OF_THE_LAUNCH.public_key)
    with platform(answering()) as sock:
        session = Session.initiate(sock, unnamed(), OF_THE_LAUNCH.public_key)
        with pytest.raises(PlatformGone):
            session.request(channel.TargetInfo(), channel.Bytes)


def test_a_coroutine_waits_and_its_loop_goes_on(platform: Serve) -> None:
    """A request of the loop's own thread receives the coroutine's answer first; each gets its own."""
    replies = [channel.Count(number, "nobody") for number in range(1, 6)]
    with platform(answering(*replies, channel.Refused("usage", "no"), channel.Bytes(b"t"))) as sock:
        session = Session.initiate(sock, unnamed(), OF_THE_LAUNCH.public_key)
        read = channel.Counter(bytes(32), "read")

        async def whole() -> None:
            first = asyncio.create_task(session.request_async(read, channel.Count))
            second = asyncio.create_task(session.request_async(read, channel.Count))
            while session._awaited is None:
                await asyncio.sleep(0)
            assert session.request(read, channel.Count).value == 2
            assert ((await first).value, (await second).value) == (1, 3)
            cancelled = asyncio.create_task(session.request_async(read, channel.Count))
            while session._awaited is None:
                await asyncio.sleep(0)
            cancelled.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await cancelled
            assert (await session.request_async(read, channel.Count)).value == 5
            with pytest.raises(UsageError, match=r"^no$"):
                await session.request_async(read, channel.Count)
            with session._turn:  # as another thread that waits for its answer
                waiting = asyncio.create_task(session.request_async(channel.TargetInfo(), channel.Bytes))
                await asyncio.sleep(0.05)
            assert (await waiting).value == b"t"

        asyncio.run(whole())


def test_a_coroutine_hears_that_the_session_is_over(platform: Serve) -> None:
    """Whether it waits for the answer itself, or another request receives that the session has ended."""
    for takes in (False, True):
        with platform(answering(bytes(60))) as sock:
            session = Session.initiate(sock, unnamed(), OF_THE_LAUNCH.public_key)

            async def whole(session: Session = session, takes: bool = takes) -> None:
                waiting = asyncio.create_task(session.request_async(channel.TargetInfo(), channel.Bytes))
                if takes:
                    while session._awaited is None:
                        await asyncio.sleep(0)
                    with pytest.raises(PlatformGone):
                        session.request(channel.TargetInfo(), channel.Bytes)
                with pytest.raises(PlatformGone):
                    await waiting
                with pytest.raises(PlatformGone, match="the session is over"):
                    await session.request_async(channel.TargetInfo(), channel.Bytes)

            asyncio.run(whole())


def test_coroutines_of_several_loops(platform: Serve) -> None:
    """Each gets its own answers, whichever loop and whichever thread the answers wake."""
    counts = [channel.Count(number, "nobody") for number in range(1, 301)]
    with platform(answering(*counts)) as sock:
        session = Session.initiate(sock, unnamed(), OF_THE_LAUNCH.public_key)
        read = channel.Counter(bytes(32), "read")
        got: list[int] = []

        async def whole() -> None:
            async def some() -> None:
                for _ in range(20):
                    answer = await session.request_async(read, channel.Count)
                    got.append(answer.value)

            async with asyncio.timeout(120):
                await asyncio.gather(*(some() for _ in range(5)))

        threads = [threading.Thread(target=asyncio.run, args=(whole(),), daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(180)
        assert sorted(got) == list(range(1, 301))


def test_a_loop_ends_while_its_coroutine_waits(platform: Serve) -> None:
    """The next one, in another loop, first receives what nobody waits for any more."""
    go = threading.Event()

    def side(sock: socket.socket) -> None:
        assert sock.recv(channel.MAX_FRAME) == channel.READY
        sock.send(bytes(channel.CHALLENGE_SIZE))
        sealed = OF_THE_LAUNCH.to(sock.recv(channel.MAX_FRAME))
        sock.send(OF_THE_LAUNCH.hello)
        for number in (1, 2):
            sealed.open_request(sock.recv(channel.MAX_FRAME + 1))
            assert go.wait(120)
            sock.send(sealed.seal_reply(channel.Count(number, "nobody")))

    with platform(side) as sock:
        session = Session.initiate(sock, unnamed(), OF_THE_LAUNCH.public_key)
        read = channel.Counter(bytes(32), "read")
        loop = asyncio.new_event_loop()
        task = loop.create_task(session.request_async(read, channel.Count))
        while session._awaited is None:
            loop.run_until_complete(asyncio.sleep(0))
        task._log_destroy_pending = False  # type: ignore[attr-defined] # it is meant
        loop.close()  # as a loop whose thread was interrupted
        go.set()
        assert asyncio.run(session.request_async(read, channel.Count)).value == 2
        assert not task.done()


def test_no_handshake(platform: Serve) -> None:
    """What is no hello is refused."""

    def side(sock: socket.socket) -> None:
        sock.recv(channel.MAX_FRAME)
        sock.send(bytes(channel.CHALLENGE_SIZE))
        sock.recv(channel.MAX_FRAME)
        sock.send(b"hello?")

    with platform(side) as sock, pytest.raises(FormatError, match=r"^channel handshake: "):
        Session.initiate(sock, unnamed(), OF_THE_LAUNCH.public_key)


def test_another_answers(platform: Serve) -> None:
    """An answer under another key than the launch document states is no platform's."""
    with platform(answering(answer=channel.Answer())) as sock, pytest.raises(PlatformGone) as gone:
        Session.initiate(sock, unnamed(), OF_THE_LAUNCH.public_key)
    assert gone.value.code == "channel_sender"


def test_many_threads(platform: Serve) -> None:
    """Requests of many threads do not mix."""
    with platform(answering(*(channel.Bytes(b"t") for _ in range(80)))) as sock:
        session = Session.initiate(sock, unnamed(), OF_THE_LAUNCH.public_key)
        got: list[bytes] = []

        def ask() -> None:
            got.extend(session.request(channel.TargetInfo(), channel.Bytes).value for _ in range(10))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        assert got == [b"t"] * 80
