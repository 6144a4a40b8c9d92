"""Root answers an enclave in its platform's place, to choose the keys that it seals to."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from kluis.errors import EnclaveDied
from kluis.formats.kluis import channel
from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from kluis.tee.platform.client import Platform
from tests.adversary import attacks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the attacker is root")


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process meanwhile, every thread of it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def waiting_end(daemon: int) -> socket.socket:
    """The platform's end of a channel on which an enclave has said that it is ready, once there is one."""
    until = time.monotonic() + attacks.SOON
    while time.monotonic() < until:
        for link in Path(f"/proc/{daemon}/fd").iterdir():
            with contextlib.suppress(OSError):
                descriptor = attacks.steal(daemon, int(link.name))
                if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    os.close(descriptor)
                    continue
                end = socket.socket(fileno=descriptor)
                with contextlib.suppress(OSError):
                    if end.recv(100, socket.MSG_PEEK | socket.MSG_DONTWAIT) == channel.READY:
                        return end
                end.close()
    raise LookupError("an enclave that is ready")


def shake_hands(end: socket.socket) -> channel.Channel:
    """Do the handshake as the platform does it, under a key of root's."""
    assert end.recv(channel.MAX_FRAME) == channel.READY
    end.send(bytes(channel.CHALLENGE_SIZE))
    hello, descriptors, _, _ = socket.recv_fds(end, channel.MAX_FRAME, 1)
    for descriptor in descriptors:
        os.close(descriptor)
    answer = channel.Answer()
    sealed = answer.to(hello)
    end.send(answer.hello)
    return sealed


def give_key(end: socket.socket, sealed: channel.Channel, asked: list[channel.Request]) -> None:
    """Answer one request for a sealing key with one of root's choice."""
    asked.append(sealed.open_request(end.recv(channel.MAX_FRAME)))
    end.send(sealed.seal_reply(channel.Bytes(bytes(32))))


def new_enclave(spawner: int, before: set[int]) -> int:
    """Wait for one that was not there before: its pid."""
    until = time.monotonic() + attacks.SOON
    while time.monotonic() < until:
        if found := set(attacks.launchers(spawner)) - before:
            return found.pop()
        time.sleep(0.0005)
    raise LookupError("an enclave")


def seal_under(
    loading: Future[EnclaveProxy],
    daemon: int,
    end: socket.socket,
    sealed: channel.Channel,
    asked: list[channel.Request],
) -> None:
    """Once an enclave is ready, have it seal, and give it the key; it may ask for more, and get no answer."""
    end.settimeout(attacks.SOON)
    with loading.result() as enclave, stopped(daemon):
        root = threading.Thread(target=give_key, args=(end, sealed, asked))
        root.start()
        enclave.submit("keep", b"secret", "measurement")
        root.join()


def test_root_answers_as_the_platform(victim_image: Path, platform: Platform) -> None:
    """Root stops the platform and answers first: the enclave takes no answer but its launch's platform's."""
    daemon = int(platform.status()["pid"])
    spawner = attacks.spawner_of(daemon)
    before = set(attacks.launchers(spawner))
    asked: list[channel.Request] = []
    with ThreadPoolExecutor(1) as pool:
        loading: Future[EnclaveProxy] = pool.submit(load, victim_image)
        new_enclave(spawner, before)
        with stopped(daemon):
            end = waiting_end(daemon)
            sealed = shake_hands(end)
        with end, pytest.raises(EnclaveDied, match="ended before it was ready"):
            seal_under(loading, daemon, end, sealed, asked)

    assert not asked, "root chose the key"
