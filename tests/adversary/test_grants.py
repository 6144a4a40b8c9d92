"""What is not granted is absent; what is granted works as described."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kluis.errors import PolicyError, RemoteError, UsageError
from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from kluis.tee.platform.client import Platform


def test_listening_socket_of_the_host(
    victim_image: Path, platform: Platform, allowed: frozenset[str]
) -> None:
    """A granted listening socket is served inside, by an enclave that can make none itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with load(victim_image, insecure_allow_missing=allowed, sockets={"listen:web": listener}) as enclave:
            serving = enclave.submit("serve_one", "listen:web")
            with socket.create_connection(("127.0.0.1", port), timeout=300) as peer:
                peer.sendall(b"hello")
                assert peer.recv(100) == b"HELLO"
            assert serving.result(timeout=300) == b"hello"
            with pytest.raises(RemoteError, match="UsageError"):
                enclave.serve_one("listen:web")


def test_no_socket_brought(victim: EnclaveProxy) -> None:
    """The grant by itself opens nothing."""
    with pytest.raises(RemoteError, match="UsageError"):
        victim.serve_one("listen:web")


def test_not_granted(victim_image: Path, platform: Platform, allowed: frozenset[str]) -> None:
    """A socket that the measured manifest does not name is refused at the launch."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(PolicyError, match="grants no such name"),
    ):
        platform.launch(victim_image, allow_missing=allowed, sockets={"listen:other": listener})


def test_another_kind_of_descriptor(victim_image: Path, platform: Platform, allowed: frozenset[str]) -> None:
    """A datagram socket, or a connected one, is not the listening socket that was granted."""
    here, there = socket.socketpair()
    with here, there, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        for wrong in (here, datagram):
            with pytest.raises(UsageError, match="want a listening stream socket"):
                platform.launch(victim_image, allow_missing=allowed, sockets={"listen:web": wrong})


def test_raw_report_data_is_not_granted(victim: EnclaveProxy) -> None:
    """A host cannot have the genuine enclave quote bytes of its choosing."""
    with pytest.raises(RemoteError, match="PolicyError"):
        victim.raw_quote(os.urandom(64))
