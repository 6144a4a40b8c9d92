"""MCP's client, and httpx2 itself, use an enclave over the attested transport, without a proxy."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from kluis.appraisal import BySigner
from kluis.errors import PolicyError
from kluis.host import attested
from kluis.testing.rehearsal import RehearsalPlatform
from tests.connect.running import SECONDS
from tests.enclave.hosted.policies import rehearsed
from tests.enclave.hosted.serving import Served

httpx2 = pytest.importorskip("httpx2", reason="httpx2 is not installed: scripts/setup.sh test")
OTHER = BySigner(signers=frozenset({b"\1" * 32}), product_id=5, min_svn=1)


def trusted(platform: RehearsalPlatform) -> dict[str, Any]:
    """The root and the collateral of a rehearsal."""
    collateral = json.dumps(platform.authority.collateral(datetime.now(UTC))).encode()
    return {"root": platform.authority.root_pem(), "collateral": collateral}


def test_httpx2(pages: Served, rehearsal_platform: RehearsalPlatform) -> None:
    """A response has the verdict; another policy is refused before the request leaves."""
    told = trusted(rehearsal_platform)
    transport = attested.httpx2_transport(rehearsed(), **told)
    with httpx2.Client(transport=transport, timeout=SECONDS) as client:
        answer = client.post(f"{pages.url}/words", content=b"one two")
        assert len(answer.json()) == 64
        assert attested.attestation(answer).claims.product_id == 5
    before = pages.enclave.told()
    other = attested.httpx2_transport(rehearsed(OTHER), **told)
    with (
        httpx2.Client(transport=other, timeout=SECONDS) as client,
        pytest.raises(PolicyError, match="signer"),
    ):
        client.post(f"{pages.url}/words", content=b"a secret")
    assert pages.enclave.told() == before


def test_mcp(pages: Served, rehearsal_platform: RehearsalPlatform) -> None:
    """MCP's client takes httpx2's, with the attested transport."""
    mcp = pytest.importorskip("mcp", reason="mcp is not installed: scripts/setup.sh test")
    from mcp.client.streamable_http import streamable_http_client

    async def run() -> object:
        transport = attested.async_httpx2_transport(rehearsed(), **trusted(rehearsal_platform))
        async with httpx2.AsyncClient(transport=transport, timeout=SECONDS) as http:
            streams = streamable_http_client(f"{pages.url}/mcp", http_client=http)
            async with mcp.Client(streams) as client:
                return (await client.call_tool("mean", {"numbers": [1, 2, 6]})).structured_content

    assert asyncio.run(run()) == {"result": 3.0}


def test_mcp_is_refused(pages: Served, rehearsal_platform: RehearsalPlatform) -> None:
    """Under another policy the client fails, and the server hears nothing."""
    mcp = pytest.importorskip("mcp", reason="mcp is not installed: scripts/setup.sh test")
    from mcp.client.streamable_http import streamable_http_client

    before = pages.enclave.told()

    async def run() -> None:
        transport = attested.async_httpx2_transport(rehearsed(OTHER), **trusted(rehearsal_platform))
        http = httpx2.AsyncClient(transport=transport, timeout=SECONDS)
        streams = streamable_http_client(f"{pages.url}/mcp", http_client=http)
        async with http, mcp.Client(streams) as client:
            await client.list_tools()

    with pytest.raises(BaseException) as refused:  # noqa: PT011 - its text is looked for in its parts
        asyncio.run(run())
    assert "signer" in _text(refused.value)
    assert pages.enclave.told() == before


def _text(error: BaseException | None) -> str:
    """The messages of an error, of its causes and of its parts."""
    if error is None:
        return ""
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return " ".join([str(error), _text(error.__cause__ or error.__context__), *map(_text, parts)])
