"""curl, a client of WebSocket, an MCP client and a browser use an enclave through the proxy."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time

import pytest

from tests.connect.running import SECONDS, Running
from tests.console.browser import chromium
from tests.enclave.hosted.serving import Served

needs_curl = pytest.mark.skipif(
    shutil.which("curl") is None, reason="curl is not installed: apt-get install curl"
)


def curl(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["curl", "-sS", "--max-time", str(int(SECONDS)), *words],
        input=given,
        capture_output=True,
        check=False,
    )


@needs_curl
def test_curl(site: Running) -> None:
    """A request with a body, and one that waits for 100 Continue."""
    done = curl("--data-binary", "one two two", f"{site.url}/words")
    assert sorted(json.loads(done.stdout))[-1] == pytest.approx(2 / 5**0.5)
    large = curl(
        "-H", "Expect: 100-continue", "--data-binary", "@-", f"{site.url}/words", given=b"a " * 500_000
    )
    assert max(json.loads(large.stdout)) == 1.0
    pieces = curl("-T", "-", "-X", "POST", f"{site.url}/words", given=b"a " * 500_000)  # in chunks
    assert max(json.loads(pieces.stdout)) == 1.0


@needs_curl
def test_curl_with_websocket(site: Running, pages: Served) -> None:
    """Curl opens a WebSocket, if it was built with them."""
    if b" ws " not in subprocess.run(["curl", "--version"], capture_output=True, check=True).stdout:
        pytest.skip("this curl has no WebSocket")
    before = pages.enclave.told().count("chat")
    until = time.monotonic() + SECONDS
    with subprocess.Popen(
        ["curl", "-sSN", f"ws://127.0.0.1:{site.port}/chat"], stdin=subprocess.PIPE
    ) as child:
        try:
            while pages.enclave.told().count("chat") == before:
                assert child.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        finally:
            child.kill()


@needs_curl
def test_curl_is_refused(attacked: tuple[Running, str], pages: Served) -> None:
    """Curl shows the reason, and fails with --fail-with-body."""
    proxy, reason = attacked
    before = pages.enclave.told()
    done = curl("--fail-with-body", "--data-binary", "a secret", f"{proxy.url}/words")
    assert done.returncode == 22
    assert reason in json.loads(done.stdout)["error"]["message"]
    assert pages.enclave.told() == before


def test_websockets(site: Running) -> None:
    """The package websockets, of the asyncio client."""
    websockets = pytest.importorskip("websockets", reason="websockets is not installed")

    async def run() -> list[str]:
        async with websockets.connect(f"ws://127.0.0.1:{site.port}/chat") as chat:
            for count in range(10):
                await chat.send(f"message {count}")
            return [await chat.recv() for _ in range(10)]

    assert asyncio.run(run()) == [f"message {count}" for count in range(10)]


def test_websockets_are_refused(attacked: tuple[Running, str]) -> None:
    """The handshake fails with the reason in the answer's body."""
    websockets = pytest.importorskip("websockets", reason="websockets is not installed")
    proxy, reason = attacked

    async def run() -> None:
        async with websockets.connect(f"ws://127.0.0.1:{proxy.port}/chat"):
            pass

    with pytest.raises(websockets.InvalidStatus) as refused:
        asyncio.run(run())
    assert refused.value.response.status_code == 502
    assert reason.encode() in refused.value.response.body


def test_mcp(site: Running) -> None:
    """MCP's own client lists the tools of a server inside, and calls one."""
    mcp = pytest.importorskip("mcp", reason="mcp is not installed: scripts/setup.sh test")

    async def run() -> tuple[list[str], object]:
        async with mcp.Client(f"{site.url}/mcp") as client:
            tools = await client.list_tools()
            answer = await client.call_tool("mean", {"numbers": [1, 2, 6]})
            return [tool.name for tool in tools.tools], answer.structured_content

    assert asyncio.run(run()) == (["mean"], {"result": 3.0})


def test_mcp_is_refused(attacked: tuple[Running, str], pages: Served) -> None:
    """MCP's client fails, and no call reached the server."""
    mcp = pytest.importorskip("mcp", reason="mcp is not installed: scripts/setup.sh test")
    proxy, _ = attacked
    before = pages.enclave.told()

    async def run() -> None:
        async with mcp.Client(f"{proxy.url}/mcp") as client:
            await client.list_tools()

    with pytest.raises(BaseException, match=r"502|refused|[Ss]erver|error"):
        asyncio.run(run())
    assert pages.enclave.told() == before


@pytest.mark.slow
def test_a_browser(site: Running) -> None:
    """A page from inside opens its WebSocket and sends a request: Chromium knows nothing of enclaves."""
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{site.url}/")
        page.get_by_text("hello 64", exact=True).wait_for(timeout=SECONDS * 1000)


@pytest.mark.slow
def test_a_browser_is_refused(attacked: tuple[Running, str]) -> None:
    """The browser shows the reason."""
    proxy, reason = attacked
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{proxy.url}/", timeout=SECONDS * 1000)
        assert reason in page.content()
