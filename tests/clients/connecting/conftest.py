"""Services in rehearsed enclaves, proxies to them, and proxies whose enclave was replaced."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kluis.formats.kluis.attested_tls import PATH, Question
from kluis.testing.plugin import other_platform, rehearsal_platform
from kluis.testing.rehearsal import RehearsalPlatform
from tests.clients.openai.serving import Service, service
from tests.connect.relaying import Middle, Switch
from tests.connect.running import Running, running
from tests.enclave.hosted.policies import judge_of
from tests.enclave.hosted.serving import Served, plain_tls

__all__ = ["other_platform", "rehearsal_platform", "service"]
PAGES = Path(__file__).parent / "pages" / "app.py"
ATTACKS = ("a man in the middle", "another image", "evidence from before")
REASONS = {
    "a man in the middle": "the evidence was made for another connection",
    "another image": "signer: want ",
    "evidence from before": "nonce",
}


def port_of(url: str) -> int:
    """The port of an address."""
    return int(url.rpartition(":")[2])


@pytest.fixture(scope="session")
def models(service: Service) -> Iterator[Running]:
    """A proxy to the service of private inference."""
    judge = judge_of(service.platform, service.policy)
    with running(judge, port_of(service.url)) as found:
        yield found


@pytest.fixture(scope="session")
def pages(rehearsal_platform: RehearsalPlatform) -> Iterator[Served]:
    """A small site with a WebSocket and an MCP server, in a rehearsed enclave."""
    pytest.importorskip("mcp", reason="mcp is not installed: scripts/setup.sh test")
    yield from _serve(rehearsal_platform, bytes(32))


@pytest.fixture(scope="session")
def site(pages: Served, rehearsal_platform: RehearsalPlatform) -> Iterator[Running]:
    """A proxy to it."""
    with running(judge_of(rehearsal_platform), pages.port) as found:
        yield found


@pytest.fixture(scope="session", params=ATTACKS)
def attacked(
    request: pytest.FixtureRequest, pages: Served, rehearsal_platform: RehearsalPlatform
) -> Iterator[tuple[Running, str]]:
    """A proxy that verified the site, then met something else; and what its answers have to state."""
    with ExitStack() as stack:
        switch = stack.enter_context(Switch(pages.port))
        proxy = stack.enter_context(running(judge_of(rehearsal_platform), switch.port))
        if request.param == "another image":
            other = stack.enter_context(contextmanager(_serve)(rehearsal_platform, b"\1" * 32))
            switch.target = other.port
        else:
            middle = stack.enter_context(Middle(pages.port))
            switch.target = middle.port
            if request.param == "evidence from before":
                kept = _evidence(pages.port)
                middle.answer = lambda _: kept
        switch.cut()
        yield proxy, REASONS[request.param]


def _serve(platform: RehearsalPlatform, signer: bytes) -> Iterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        enclave = platform.launch(PAGES, sockets={"listen:web": listener}, signer=signer)
        try:
            yield Served(enclave, listener)
        finally:
            enclave.close()


def _evidence(port: int) -> bytes:
    """The enclave's answer to another client."""
    asked = Question(bytes(32)).encode()
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (PATH.encode(), len(asked))
    with plain_tls(port) as tls:
        tls.sendall(head + asked)
        return tls.recv(1 << 20)
