"""A machine whose agent answers a launch with anything: its host reports an error of ours, in one line."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import FormatError, KluisError, UnavailableError
from kluis.streams import Stream
from kluis.tee.remote import RemotePlatform, messages
from tests.tee.image import samples

GOOD: dict[str, Any] = {
    "pid": 7,
    "image_id": "ab" * 32,
    "level": "process",
    "launch_configuration": "e30=",
    "debug": False,
}


class Agent:
    """Answers hello and joins as it should, a launch with ``answer``, and reports ``end``."""

    def __init__(self, answer: dict[str, Any], end: dict[str, Any] | None = None) -> None:
        self._answer, self._end = answer, end
        self._joined = threading.Barrier(3, timeout=120)
        self._threads: list[threading.Thread] = []

    def connect(self) -> socket.socket:
        """A new stream to it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._threads.append(threading.Thread(target=self._serve, args=(Stream(theirs),), daemon=True))
        self._threads[-1].start()
        return ours

    def _serve(self, end: Stream) -> None:
        with contextlib.closing(end), contextlib.suppress(KluisError, OSError, threading.BrokenBarrierError):
            while (received := messages.receive(end)) is not None:
                request = received[0]
                if request["op"] == "hello":
                    messages.send(end, {"protocol": 1, "only": None, "nonce": request["nonce"]})
                elif request["op"] == "join":
                    messages.send(end, {"joined": request["as"]})
                    self._joined.wait()
                    return
                else:
                    messages.send(end, {"want": []})
                    self._joined.wait()
                    messages.send(end, self._answer)
                    if self._end is not None:
                        messages.send(end, self._end)

    def join(self) -> None:
        """Wait for its threads."""
        for thread in self._threads:
            thread.join(120)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A signed image."""
    (tmp_path / "image.kluis").write_bytes(samples.image(signer=samples.key()))
    return tmp_path / "image.kluis"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_id": "zz"}, "message.image_id: want 64 hex digits, got 'zz'"),
        ({"image_id": "ab" * 31}, f"message.image_id: want 64 hex digits, got '{'ab' * 31}'"),
        ({"image_id": "AB" * 32}, f"message.image_id: want 64 hex digits, got '{'AB' * 32}'"),
        ({"image_id": "\x1b[2J"}, "message.image_id: want 64 hex digits, got '\\x1b[2J'"),
        ({"image_id": 5}, "message.image_id: want a string, got int"),
        (
            {"launch_configuration": "e30"},
            "message.launch_configuration: is not base64, or not the one of its bytes",
        ),
        (
            {"launch_configuration": "\x00"},
            "message.launch_configuration: is not base64, or not the one of its bytes",
        ),
        ({"pid": "7"}, "message.pid: want an integer, got str"),
        ({"level": None}, "message.level: want a string, got NoneType"),
    ],
)
def test_a_launch_that_is_answered_with_anything(image: Path, changed: dict[str, Any], message: str) -> None:
    """Each member of the answer has a form, and an answer without it starts nothing."""
    agent = Agent(GOOD | changed)
    with pytest.raises(FormatError) as refused:
        RemotePlatform(agent.connect).launch(image)
    assert refused.value.message == message
    agent.join()


def test_words_of_a_machine(image: Path) -> None:
    """Errors, level and last output of a machine are one line each, without control characters."""
    agent = Agent({"error": "Nothing", "code": "a\nb", "message": "\x1b[2J" + "x" * 5000, "hint": "\rno"})
    with pytest.raises(UnavailableError) as refused:
        RemotePlatform(agent.connect).launch(image)
    assert refused.value.message == "?[2J" + "x" * 1996
    assert (refused.value.code, refused.value.hint) == ("a?b", "?no")
    agent.join()
    agent = Agent(GOOD | {"level": "pro\ncess"}, {"event": "exited", "status": 3, "words": "a\x1b]0;b\n"})
    running = RemotePlatform(agent.connect).launch(image)
    assert (running.level, running.image_id) == ("pro?cess", bytes.fromhex("ab" * 32))
    assert running.wait(120) == (3, "a?]0;b?")
    running.kill()
    agent.join()
