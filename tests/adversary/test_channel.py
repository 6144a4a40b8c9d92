"""A stolen channel descriptor: it can only cut the channel, never speak on it."""

from __future__ import annotations

import os
import socket

import msgspec
import pytest

from kluis.errors import EnclaveError
from kluis.formats import channel
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
    """Root duplicates the enclave's descriptor and asks in the clear: no answer, and the enclave ends."""
    pid = victim.pid
    with socket.socket(fileno=attacks.steal(pid, PLATFORM_FD)) as end:
        end.send(msgspec.msgpack.encode(request_))
        got = answers(end, pid)

    assert got == b""
    assert attacks.gone_within(pid, 3)


def test_second_handshake_on_a_stolen_descriptor(victim: EnclaveProxy) -> None:
    """One handshake a launch: another hello is a frame out of order, and ends the enclave."""
    pid = victim.pid
    offer = channel.Offer()
    with socket.socket(fileno=attacks.steal(pid, PLATFORM_FD)) as end:
        end.send(offer.hello)
        got = answers(end, pid)

    assert len(got) != channel.HELLO_SIZE
    assert attacks.gone_within(pid, 3)


def test_replayed_frame(victim: EnclaveProxy) -> None:
    """A recorded answer that is played to the enclave again is refused by it, and it ends."""
    pid = victim.pid
    with socket.socket(fileno=attacks.steal(pid, PLATFORM_FD)) as end:
        # Root reads the platform's answer before the enclave does, keeps it, and sends its own request's twin.
        end.send(b"\x00" * 64)
    with pytest.raises(EnclaveError):
        victim.evidence(bytes(8))

    assert attacks.gone_within(pid, 3)
