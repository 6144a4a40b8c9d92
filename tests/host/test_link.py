"""The host's end: a misbehaving enclave is disconnected, and no caller waits endlessly."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from kluis.enclave.boundary import frames
from kluis.enclave.boundary.codec import Codec, Limits
from kluis.enclave.boundary.frames import Parcel
from kluis.enclave.boundary.interface import parse_signature
from kluis.errors import CallTimeout, EnclaveDied, EnclaveError
from kluis.host.link import Link


def add(a: int) -> int:
    return a


CODEC = Codec(parse_signature(add), 0, frames.RETURN, Limits(1000, 1000))
Script = Callable[[socket.socket, socket.socket], None]


@pytest.fixture
def linked() -> Iterator[Callable[[Script], Link]]:
    """Makes a link to an enclave that follows a script."""
    open_: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def make(script: Script) -> Link:
        calls, control = (socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
        open_.extend((*calls, *control))
        threads.append(threading.Thread(target=script, args=(calls[1], control[1])))
        threads[-1].start()
        return Link(calls[0], control[0], 1 << 20, lambda *_: None, lambda: "status 9")

    yield make
    for sock in open_:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        finally:
            sock.close()
    for thread in threads:
        thread.join(300)


def call(link: Link, timeout: float | None = None) -> Any:
    number = next(link.ids)
    frame = CODEC.encode_plain(number, (1,))
    answer = (
        link.quick(number, frame, CODEC)
        if timeout is None
        else link.exchange(number, frame, (), timeout, "add")
    )
    return CODEC.decode_result(answer) if isinstance(answer, Parcel) else answer


def asked(sock: socket.socket) -> int:
    return int(msgspec.msgpack.decode(sock.recv(frames.INLINE))[1])


def test_answer(linked: Callable[[Script], Link]) -> None:
    """An answer is delivered to its caller."""
    assert call(linked(lambda calls, _: echo(calls))) == 7


def echo(calls: socket.socket) -> None:
    calls.send(frames.encode((frames.RETURN, asked(calls), 7)))


BROKEN: dict[str, tuple[bytes, str]] = {
    "no frame": (b"\xc0", "Expected `array`, got `None`"),
    "answers a call that nobody made": (
        frames.encode((frames.RETURN, 99, 1)),
        "answered call 99, which waits for nothing",
    ),
    "announces a frame that does not come": (frames.LARGE, "[Errno 11] Resource temporarily unavailable"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_breaks_the_protocol(linked: Callable[[Script], Link], case: str) -> None:
    """An enclave that breaks the protocol is disconnected; this call, and every later one, reports that."""
    data, how = BROKEN[case]

    def script(calls: socket.socket, control: socket.socket) -> None:
        asked(calls)
        calls.send(data)

    link = linked(script)
    for _ in range(2):
        with pytest.raises(EnclaveError) as broke:
            call(link)
        assert broke.value.code == "protocol"
        assert broke.value.message == f"the enclave broke the protocol: {how}"


def test_ends(linked: Callable[[Script], Link]) -> None:
    """When an enclave ends, its last output is reported."""

    def script(calls: socket.socket, control: socket.socket) -> None:
        asked(calls)
        calls.shutdown(socket.SHUT_RDWR)

    link = linked(script)
    for _ in range(2):
        with pytest.raises(EnclaveDied, match=r"^the enclave ended: status 9$"):
            call(link)


def test_answers_too_late(linked: Callable[[Script], Link]) -> None:
    """A late answer is thrown away, and the next call gets its own."""
    late = threading.Event()

    def script(calls: socket.socket, control: socket.socket) -> None:
        first = asked(calls)
        assert msgspec.msgpack.decode(control.recv(100)) == [frames.CANCEL, first]
        late.set()
        second = asked(control)
        calls.send(frames.encode((frames.RETURN, first, 666)))
        calls.send(frames.encode((frames.RETURN, second, 7)))

    link = linked(script)
    with pytest.raises(CallTimeout, match=r"^add: no answer in 0\.05 s$"):
        call(link, 0.05)
    assert late.wait(300)
    assert call(link, 300.0) == 7


def test_everybody_gets_their_own(linked: Callable[[Script], Link]) -> None:
    """Answers that come out of order find the threads that wait for them."""
    count = 8

    def script(calls: socket.socket, control: socket.socket) -> None:
        numbers = [asked(calls), *(asked(control) for _ in range(count - 1))]
        for number in reversed(numbers):
            calls.send(frames.encode((frames.RETURN, number, number * 10)))

    link = linked(script)
    got: dict[int, int] = {}
    first = threading.Event()

    def ask() -> None:
        number = next(link.ids)
        first.set()
        answer = link.exchange(number, CODEC.encode_plain(number, (1,)), (), 300.0, "add")
        got[number] = CODEC.decode_result(answer)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert got == {number: number * 10 for number in range(1, count + 1)}


def test_closed(linked: Callable[[Script], Link]) -> None:
    """Closing the link wakes all waiting callers."""
    ended: list[str] = []

    def ask() -> None:
        try:
            call(link)
        except EnclaveDied as error:
            ended.append(error.message)

    link = linked(lambda calls, control: None)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.1)
    link.close()
    for thread in threads:
        thread.join(300)
    assert ended == ["the enclave was closed"] * 4


def test_an_ocall_runs_in_the_thread_that_waits(linked: Callable[[Script], Link]) -> None:
    """A thread without a deadline runs it, and others read their answers meanwhile; one with a deadline does
    not.
    """
    served, offered, ran = threading.Event(), list[bool](), list[int]()

    def script(calls: socket.socket, control: socket.socket) -> None:
        numbers = [asked(calls)]
        calls.send(frames.encode((frames.FIRST_OCALL, 1)))
        numbers.append(asked(control))
        calls.send(frames.encode((frames.RETURN, numbers[1], 20)))  # while the first thread is busy
        assert msgspec.msgpack.decode(control.recv(100)) == [frames.OCALL_RETURN, 1, None]
        calls.send(frames.encode((frames.RETURN, numbers[0], 10)))
        last = asked(calls)
        calls.send(frames.encode((frames.FIRST_OCALL, 2)))
        calls.send(frames.encode((frames.RETURN, last, 30)))

    link, begun = linked(script), threading.Event()

    def take(parcel: Parcel, here: bool) -> Callable[[], None] | None:
        offered.append(here)
        if not here:
            return None

        def run() -> None:
            ran.append(threading.get_ident())
            begun.set()
            assert served.wait(300)
            link.answer_ocall(1, frames.encode((frames.OCALL_RETURN, 1, None)), ())

        return run

    link._on_ocall = take
    got: dict[str, Any] = {}

    def first() -> None:
        number = next(link.ids)
        answer = link.exchange(number, CODEC.encode_plain(number, (1,)), (), None, "add")
        got["first"] = CODEC.decode_result(answer), threading.get_ident()

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(300)
    number = next(link.ids)
    second = link.exchange(number, CODEC.encode_plain(number, (1,)), (), 300.0, "add")
    assert CODEC.decode_result(second) == 20
    served.set()
    thread.join(300)
    assert got["first"][0] == 10
    assert ran == [got["first"][1]]
    assert call(link, 300.0) == 30
    assert offered == [True, False]
