"""A stolen channel descriptor: it can only cut the channel, never speak on it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

import msgspec
import pytest

from kluis.formats.kluis import channel
from kluis.host.proxy import EnclaveProxy
from tests.adversary import attacks

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: it is root who may duplicate descriptors"
)

PLATFORM_FD = 5
ASKED = [
    channel.Quote(b"attacker's own report data".ljust(64, b"\0")),
    channel.SealKey("measurement", 0, bytes(32), bytes(16)),
    channel.Counter(bytes(32), "increment"),
]


def answers(end: socket.socket, pid: int) -> bytes:
    """What comes back on the enclave's own side of the channel; nothing when it was cut."""
    end.settimeout(1)
    try:
        return end.recv(channel.MAX_FRAME)
    except (TimeoutError, ConnectionError):
        return b""


@pytest.mark.parametrize("request_", ASKED, ids=lambda r: type(r).__name__)
def test_plain_request_on_a_stolen_descriptor(victim: EnclaveProxy, request_: channel.Request) -> None:
    """Root duplicates the enclave's descriptor and sends a plain request: no answer, and the enclave ends."""
    pid = victim.pid
    with socket.socket(fileno=attacks.steal(pid, PLATFORM_FD)) as end:
        end.send(msgspec.msgpack.encode(request_))
        got = answers(end, pid)

    assert got == b""
    assert attacks.gone_within(pid, attacks.SOON)


def test_second_handshake_on_a_stolen_descriptor(victim: EnclaveProxy) -> None:
    """One handshake a launch: another hello is a frame out of order, and ends the enclave."""
    pid = victim.pid
    offer = channel.Offer()
    with socket.socket(fileno=attacks.steal(pid, PLATFORM_FD)) as end:
        end.send(offer.hello)
        got = answers(end, pid)

    assert len(got) != channel.HELLO_SIZE
    assert attacks.gone_within(pid, attacks.SOON)


def test_replayed_answer(victim: EnclaveProxy) -> None:
    """Root takes an answer off the wire and plays it back as a request: it opens nothing, and ends it all."""
    pid = victim.pid
    stop = threading.Event()
    taken: list[bytes] = []

    def listen(end: socket.socket) -> None:
        end.settimeout(0.05)
        while not stop.is_set():
            try:
                if frame := end.recv(channel.MAX_FRAME):
                    taken.append(frame)
            except (TimeoutError, ConnectionError):
                continue

    with socket.socket(fileno=attacks.steal(pid, PLATFORM_FD)) as end:
        thief = threading.Thread(target=listen, args=(end,))
        thief.start()
        for _ in range(200):
            call = victim.submit("vouch", bytes(8), b"")
            with contextlib.suppress(Exception):
                call.result(timeout=0.2)
            if taken:
                break
        assert taken, "the thief never won the race for an answer"
        # All that the thief has are sealed bytes of the platform's own, under the key of that direction.
        end.send(taken[0])
        stop.set()
        thief.join()

    assert attacks.gone_within(pid, attacks.SOON)
    assert b"attacker" not in taken[0]
