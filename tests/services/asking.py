"""Requests to an ASGI application in this process."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

BASE = "https://sums.example:8443"


def ask(application: Any, method: str, path: str, *, base: str = BASE, **rest: Any) -> httpx.Response:
    """One request, and its answer."""

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url=base, timeout=120) as client:
            return await client.request(method, path, **rest)

    return asyncio.run(run())
