"""A hostile host against the agent of a machine: it closes, stalls or floods, at each step of a launch."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis.errors import KluisError, UnavailableError
from kluis.streams import Stream
from kluis.tee.image import archive
from kluis.tee.inside.agent import MOST_STREAMS, Agent
from kluis.tee.platform.client import Platform
from kluis.tee.remote import messages
from kluis.tee.remote.platform import _send_layers
from tests.images import ALLOWED, built

__all__ = ["built"]

HELLO = Path(__file__).parents[2] / "examples" / "hello"
SECONDS = 120.0
PATIENCE_SECONDS = 0.5
STEPS = ("hello", "head", "layers", "calls", "control")


class Host:
    """A host that takes the steps of a launch, and holds its streams open.

    Args:
        agent: of the machine, in this process.
        image: that it launches.
    """

    def __init__(self, agent: Agent, image: Path) -> None:
        self._agent, self._image = agent, image
        self._name = os.urandom(16).hex()
        self.streams: list[Stream] = []
        self._threads: list[threading.Thread] = []

    def stream(self) -> Stream:
        """A new stream to the agent."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._threads.append(threading.Thread(target=self._agent.serve, args=(Stream(theirs),), daemon=True))
        self._threads[-1].start()
        self.streams.append(Stream(ours, patience_seconds=SECONDS))
        return self.streams[-1]

    def go(self, last: str) -> Stream:
        """Take each step up to ``last``; return the stream of the launch."""
        steps = STEPS[: STEPS.index(last) + 1]
        session = self.stream()
        messages.send(session, {"op": "hello", "nonce": self._name})
        assert _answer(session)["nonce"] == self._name
        if "head" not in steps:
            return session
        with self._image.open("rb") as file:
            head = archive.read_head(file)
            file.seek(0)
            request = {"op": "launch", "launch": self._name, "sockets": [], "fresh": True}
            messages.send(session, {**request, "allow_missing": sorted(ALLOWED)}, [file.read(head.end)])
            wanted = frozenset(messages.texts(_answer(session), "want"))
            assert wanted
            if "layers" in steps:
                _send_layers(session, file, head, wanted)
        for which in messages.ENDS:
            if which in steps:
                end = self.stream()
                messages.send(end, {"op": "join", "launch": self._name, "as": which})
                assert _answer(end) == {"joined": which}
        return session

    def close(self) -> None:
        """Close every stream at once."""
        for each in self.streams:
            each.close()

    def await_end(self) -> None:
        """Wait until the agent has left every stream."""
        until = time.monotonic() + SECONDS
        for each in self._threads:
            each.join(max(0.0, until - time.monotonic()))
            assert not each.is_alive()


def _answer(stream: Stream) -> messages.Message:
    received = messages.receive(stream, announced=True)
    assert received is not None
    return messages.check(received[0])


def _send_for_ever(stream: Stream) -> None:
    while True:
        messages.send(stream, {"op": "collateral"})


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """This machine's platform, in the place of a guest's."""
    found = Platform.connect()
    with found.hold():
        yield found


@pytest.fixture
def agent(platform: Platform) -> Iterator[Agent]:
    """An agent that is impatient; in the end nothing of any host is left in it, or in the platform."""
    before = sorted(os.listdir("/proc/self/fd"))
    made = Agent(platform, patience_seconds=PATIENCE_SECONDS)
    yield made
    assert made._launches == {}
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert platform.status()["enclaves"] == 0
    for _ in range(MOST_STREAMS):
        assert made._streams.acquire(blocking=False)


@pytest.fixture(scope="module")
def image(built: Callable[..., Path]) -> Path:
    """An image whose own layer the machine does not have."""
    return built(HELLO)


@pytest.mark.parametrize("last", STEPS)
def test_it_closes(agent: Agent, image: Path, last: str) -> None:
    """A host that closes its streams at one step takes the launch with it, and a running enclave."""
    host = Host(agent, image)
    session = host.go(last)
    if last == "control":
        assert _answer(session)["pid"]
    host.close()
    host.await_end()


@pytest.mark.parametrize("last", ["layers", "calls"])
def test_it_stalls(agent: Agent, image: Path, last: str) -> None:
    """A host that joins no streams gets that as an error, and its launch is over."""
    host = Host(agent, image)
    session = host.go(last)
    with pytest.raises(UnavailableError, match=r"launch: its streams did not join in 0\.5 s"):
        _answer(session)
    host.await_end()
    host.close()


def test_it_stalls_before_a_layer(agent: Agent, image: Path) -> None:
    """A host that announced an image and does not send it is left after the agent's patience."""
    host = Host(agent, image)
    session = host.go("head")
    host.await_end()
    assert session.recv(1) == b""
    host.close()


def test_it_stalls_within_a_record(agent: Agent, image: Path) -> None:
    """A part of a record holds a stream no longer than the agent's patience."""
    host = Host(agent, image)
    end = host.go("hello")
    os.write(end.fileno(), b"\x10\0\0")
    host.await_end()
    assert end.recv(1) == b""
    host.close()


def test_it_reads_no_answer(agent: Agent, image: Path) -> None:
    """A host that sends requests and reads nothing is left, and the agent keeps none of its answers."""
    host = Host(agent, image)
    end = host.stream()
    end.patience_seconds = 10 * PATIENCE_SECONDS
    with pytest.raises(UnavailableError, match="machine: its stream"):
        _send_for_ever(end)
    host.await_end()
    host.close()


def test_a_file_of_a_tebibyte(agent: Agent, image: Path) -> None:
    """A file that is announced and larger than an image's head may be is refused before its bytes come."""
    host = Host(agent, image)
    end = host.go("hello")
    head = (16).to_bytes(3, "little") + b"\1" + (1).to_bytes(4, "little")
    os.write(end.fileno(), head + bytes(8) + (1 << 40).to_bytes(8, "little"))
    host.await_end()
    assert end.recv(1) == b""
    host.close()


def test_more_streams_than_there_are(agent: Agent, image: Path) -> None:
    """A stream beyond the agent's most is closed at once; the others are served."""
    host = Host(agent, image)
    first = host.go("hello")
    for _ in range(MOST_STREAMS - 1):
        host.go("hello")
    assert host.stream().recv(1) == b""
    messages.send(first, {"op": "hello", "nonce": "again"})
    assert _answer(first)["nonce"] == "again"
    host.close()
    host.await_end()


def test_a_name_that_another_launch_has(agent: Agent, image: Path) -> None:
    """A second launch of a name is refused, and the first one's streams cannot be joined twice."""
    host = Host(agent, image)
    host.go("calls")
    end = host.stream()
    messages.send(end, {"op": "join", "launch": host._name, "as": "calls"})
    with pytest.raises(KluisError, match="each once, got 'calls'"):
        _answer(end)
    with contextlib.suppress(KluisError):
        host.go("head")
    host.close()
    host.await_end()
