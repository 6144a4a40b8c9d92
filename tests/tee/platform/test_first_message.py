"""Whose first message it is: a socket that its sender listens on, named after the message."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from typing import BinaryIO

import pytest

from kluis.errors import AuthenticityError, UnavailableError
from kluis.formats.kluis import channel
from kluis.tee.platform.root import session


def listening(name: bytes) -> socket.socket:
    """A socket of that name, listened on by this process."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.bind(name)
    made.listen(0)
    return made


def bound_pair(name: bytes) -> socket.socket:
    """One end of a pair that this process made, and that anybody who has it may name."""
    made, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    other.close()
    made.bind(name)
    return made


def bound(name: bytes) -> socket.socket:
    """A socket of that name that nobody listens on."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.bind(name)
    return made


Proved = socket.socket | BinaryIO
HELLO = channel.Offer().hello


def say(
    prove: Callable[[bytes], Proved | None], enclave: int | Callable[[], int], hello: bytes = HELLO
) -> int:
    """Send a hello to a platform that waits for ``enclave``, with what proves it; the answer's size.

    Args:
        prove: makes the proof from the platform's challenge.
        enclave: the pid that the platform waits for, or what confirms it.
        hello: the message.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def speak() -> None:
        ours.send(channel.READY)
        proof = prove(ours.recv(channel.CHALLENGE_SIZE))
        socket.send_fds(ours, [hello], [proof.fileno()] if proof else [])
        if proof:
            proof.close()

    speaker = threading.Thread(target=speak)
    with ours, theirs:
        speaker.start()
        try:
            session.accept(theirs, channel.Answer(), enclave if callable(enclave) else lambda: enclave)
        finally:
            speaker.join()
        return len(ours.recv(channel.MAX_FRAME))


def test_the_enclaves_own() -> None:
    """The process that listens is the enclave, and the name is the message's and the challenge's."""
    answered = say(lambda challenge: listening(channel.proof_name(HELLO, challenge)), os.getpid())
    assert answered == channel.HELLO_SIZE


@pytest.mark.parametrize("make", [bound, bound_pair])
def test_nobody_listens(make: Callable[[bytes], socket.socket]) -> None:
    """A socket that is only named, or a pair that the enclave made, proves nothing."""
    with pytest.raises(AuthenticityError, match="got 0"):
        say(lambda challenge: make(channel.proof_name(HELLO, challenge)), os.getpid())


def test_another_message() -> None:
    """The enclave's own socket does not carry another message."""
    other = channel.Offer().hello
    with pytest.raises(AuthenticityError, match="got 0"):
        say(lambda challenge: listening(channel.proof_name(other, challenge)), os.getpid())


def test_before_the_challenge() -> None:
    """A socket that was named before the platform's challenge proves nothing."""
    with pytest.raises(AuthenticityError, match="got 0"):
        say(lambda _: listening(channel.proof_name(HELLO, bytes(32))), os.getpid())


def test_another_process() -> None:
    """Another process listens: it is named in the refusal."""
    with pytest.raises(AuthenticityError, match=f"want pid 1, got {os.getpid()}"):
        say(lambda challenge: listening(channel.proof_name(HELLO, challenge)), 1)


def test_it_is_confirmed_again() -> None:
    """The pid may be another process's by the time of the hello: then nothing is answered."""
    confirmed = [os.getpid()]

    def confirm() -> int:
        if not confirmed:
            raise UnavailableError("another process")
        return confirmed.pop()

    with pytest.raises(UnavailableError, match="another process"):
        say(lambda challenge: listening(channel.proof_name(HELLO, challenge)), confirm)


def test_nothing_with_it() -> None:
    """A message without a socket, and one with a file, are nobody's."""
    with pytest.raises(AuthenticityError, match="got 0"):
        say(lambda _: None, os.getpid())
    with open(os.devnull, "rb") as file, pytest.raises(AuthenticityError, match="got 0"):
        say(lambda _: file, os.getpid())


def test_no_challenge_without_the_launcher() -> None:
    """A process that does not execute the launcher gets no challenge."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def other_program() -> int:
        raise UnavailableError("another program")

    with ours, theirs:
        ours.send(channel.READY)
        with pytest.raises(UnavailableError):
            session.accept(theirs, channel.Answer(), other_program)
        theirs.close()
        assert ours.recv(channel.MAX_FRAME) == b""
