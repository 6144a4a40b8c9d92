"""A rehearsed enclave, and a proxy to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.enclave.attested_tls.judge import Judge
from kluis.testing.plugin import other_platform, rehearsal_platform
from kluis.testing.rehearsal import RehearsalPlatform
from tests.connect.running import Running, running
from tests.enclave.hosted.policies import judge_of
from tests.enclave.hosted.serving import Served

__all__ = ["other_platform", "rehearsal_platform"]
APP = Path(__file__).parent / "hosted" / "app.py"


@pytest.fixture(scope="module")
def served(rehearsal_platform: RehearsalPlatform) -> Iterator[Served]:
    """An application with every kind of request and response, in a rehearsed enclave."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        enclave = rehearsal_platform.launch(APP, sockets={"listen:web": listener})
        try:
            yield Served(enclave, listener)
        finally:
            enclave.close()


@pytest.fixture(scope="module")
def judge(rehearsal_platform: RehearsalPlatform) -> Judge:
    """A judge that trusts this platform's root and the application's signer."""
    return judge_of(rehearsal_platform)


@pytest.fixture(scope="module")
def proxy(served: Served, judge: Judge) -> Iterator[Running]:
    """A proxy to it."""
    with running(judge, served.port) as found:
        yield found
