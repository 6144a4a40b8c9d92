"""Whose first message it is: a socket that its sender listens on, named after the message."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from kluis.errors import AuthenticityError
from kluis.formats import channel
from kluis.tee.platform import session


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


def say(proof: socket.socket | None, hello: bytes, enclave: int) -> int:
    """Send a hello with a proof to a platform that waits for ``enclave``; the answer's size."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        socket.send_fds(ours, [hello], [proof.fileno()] if proof else [])
        session.accept(theirs, channel.Answer(), lambda: enclave)
        return len(ours.recv(channel.MAX_FRAME))


def test_the_enclaves_own() -> None:
    """The process that listens is the enclave, and the name is the message's."""
    hello = channel.Offer().hello
    with listening(channel.proof_name(hello)) as proof:
        assert say(proof, hello, os.getpid()) == channel.HELLO_SIZE


@pytest.mark.parametrize("make", [bound, bound_pair])
def test_nobody_listens(make: Callable[[bytes], socket.socket]) -> None:
    """A socket that is only named, or a pair that the enclave made, proves nothing."""
    hello = channel.Offer().hello
    with make(channel.proof_name(hello)) as proof, pytest.raises(AuthenticityError, match="got 0"):
        say(proof, hello, os.getpid())


def test_another_message() -> None:
    """The enclave's own socket does not carry another message."""
    with (
        listening(channel.proof_name(channel.Offer().hello)) as proof,
        pytest.raises(AuthenticityError, match="got 0"),
    ):
        say(proof, channel.Offer().hello, os.getpid())


def test_another_process() -> None:
    """Another process listens: it is named in the refusal."""
    hello = channel.Offer().hello
    with (
        listening(channel.proof_name(hello)) as proof,
        pytest.raises(AuthenticityError, match=f"want pid 1, got {os.getpid()}"),
    ):
        say(proof, hello, 1)


def test_nothing_with_it() -> None:
    """A message without a socket, and one with a file, are nobody's."""
    with pytest.raises(AuthenticityError, match="got 0"):
        say(None, channel.Offer().hello, os.getpid())
    with open(os.devnull) as file, pytest.raises(AuthenticityError, match="got 0"):
        say(file, channel.Offer().hello, os.getpid())  # type: ignore[arg-type]
