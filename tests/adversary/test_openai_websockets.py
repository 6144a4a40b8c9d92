"""The package openai opens WebSockets past its HTTP client: none of them reaches an unverified server."""

from __future__ import annotations

import asyncio
import operator
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

pytest.importorskip("openai")
pytest.importorskip("websockets")

from kluis.client import AsyncOpenAI, OpenAI
from kluis.errors import UsageError
from tests.clients.openai.serving import policy
from tests.evidence.forge import Forge

WAYS = ("realtime.connect", "beta.realtime.connect", "responses.connect", "beta.responses.connect")
ARGUMENTS = {"realtime.connect": {"model": "chat"}, "beta.realtime.connect": {"model": "chat"}}


@pytest.fixture
def eavesdropper() -> Iterator[socket.socket]:
    """A server that waits for anything that is sent to the enclave's address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.fixture
def options(eavesdropper: socket.socket) -> dict[str, Any]:
    """Arguments of a client for that address."""
    authority = Forge().authority
    return {
        "base_url": f"https://127.0.0.1:{eavesdropper.getsockname()[1]}/v1",
        "policy": policy(),
        "root": authority.root_pem(),
        "collateral": msgspec.json.encode(authority.collateral(datetime.now(UTC))),
        "api_key": "a secret",
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("copied", [False, True])
def test_a_websocket(eavesdropper: socket.socket, options: dict[str, Any], way: str, copied: bool) -> None:
    """Both clients, and copies of them, refuse a WebSocket before they connect."""
    with OpenAI(**options) as client:
        used = client.with_options(timeout=5) if copied else client
        connect = operator.attrgetter(way)(used)
        with pytest.raises(UsageError, match="would not verify the enclave"):
            connect(**ARGUMENTS.get(way, {})).enter()

    async def open_one() -> None:
        async with AsyncOpenAI(**options) as client:
            used = client.with_options(timeout=5) if copied else client
            await operator.attrgetter(way)(used)(**ARGUMENTS.get(way, {})).enter()

    with pytest.raises(UsageError, match="would not verify the enclave"):
        asyncio.run(open_one())
    with pytest.raises(BlockingIOError):
        eavesdropper.accept()


def test_another_address_for_websockets(options: dict[str, Any]) -> None:
    """An address for them is refused, at first and for a copy; other options of a copy still work."""
    for kind in (OpenAI, AsyncOpenAI):
        with pytest.raises(UsageError, match="opens no WebSocket"):
            kind(**options, websocket_base_url="wss://127.0.0.1:1")
        client = kind(**options)
        with pytest.raises(UsageError, match="opens no WebSocket"):
            client.copy(websocket_base_url="wss://127.0.0.1:1")
        assert client.with_options(max_retries=7).max_retries == 7
