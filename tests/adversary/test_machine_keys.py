"""A host that wants the key of a machine's vTPM for itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kluis.errors import RemoteError, UsageError
from kluis.formats.kluis.machine_key import GRANT, Offer, Refused, encode, read_reply, read_size
from kluis.host.proxy import EnclaveProxy
from kluis.tee.vm.inside.agent import Launching
from kluis.tee.vm.inside.keys import MachineKeys
from kluis.testing.plugin import enclave
from tests.launching import rehearsal_platform

__all__ = ["enclave", "rehearsal_platform"]

APP = Path(__file__).parents[1] / "tee" / "vm" / "inside" / "keeping" / "app.py"


@pytest.mark.parametrize(
    ("lack", "words"),
    [
        ("debug", "want an enclave whose memory its host cannot read, got a debug one"),
        ("guardian", "want a launch with every protection, got one without: guardian"),
    ],
)
def test_a_launch_that_lets_its_host_look(lack: str, words: str) -> None:
    """A debug enclave, and one without a protection, get no key, and do not claim the machine."""
    driven: list[str] = []
    keys = MachineKeys(lambda: driven.append("asked"))  # type: ignore[func-returns-value]
    ours, theirs = socket.socketpair()
    serving = threading.Thread(target=keys.serve, args=(theirs, bytes(32), lack))
    serving.start()
    with ours, ours.makefile("rb") as received:
        ours.sendall(encode(Offer(b"")))
        reply = read_reply(received.read(read_size(received.read(4))))
    serving.join(60)
    assert isinstance(reply, Refused)
    assert (reply.code, reply.message) == ("launch_lacks", f"machine key: {words}")
    assert not driven


def test_the_hosts_own_socket() -> None:
    """In a machine the host cannot put its socket in the place of the agent's."""
    with pytest.raises(UsageError, match="want none from the host: the machine has it"):
        Launching().grant([GRANT])
    launching = Launching()
    launching.grant_keys()
    assert launching.connect(GRANT) is None
    launching.close()


def test_a_host_that_plays_the_agent(enclave: Callable[..., EnclaveProxy]) -> None:
    """Outside of a machine the host may answer anything: no answer opens a token or a key."""
    for answer in (b"", b"\xff" * 4, (1).to_bytes(4, "little") + b"\xc1", encode(Offer(b""))):
        ours, theirs = socket.socketpair()
        with ours:
            running = enclave(APP, sockets={GRANT: theirs})
            theirs.close()
            asking = running.offer.submit(b"")
            assert ours.recv(4)
            ours.sendall(answer)
            ours.shutdown(socket.SHUT_WR)
            with pytest.raises(RemoteError, match="machine key: "):
                asking.result(120)
