"""An MCP client: it sends nothing before the enclave at the other end meets the policy.

python project_name/client.py https://127.0.0.1:8443
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from kluis.errors import KluisError
from kluis.host import attested

POLICY = Path(__file__).with_name("policy.toml")


class Attested(httpx2.AsyncBaseTransport):
    """Attested TLS for MCP's client, whose HTTP library is httpx2."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._client = httpx.AsyncClient(transport=transport, timeout=60)
        self.answer: httpx.Response | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request over a connection whose enclave has been judged."""
        self.answer = answer = await self._client.request(
            request.method, str(request.url), headers=request.headers.raw, content=await request.aread()
        )
        return httpx2.Response(answer.status_code, headers=answer.headers.raw, content=answer.content)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()


async def main(url: str) -> None:
    """List the tools, call one, and print the answer and what was verified."""
    transport = Attested(attested.async_transport(POLICY))
    async with (
        httpx2.AsyncClient(transport=transport) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
    ):
        tools = await client.list_tools()
        result = await client.call_tool("mean_age", {"ages": [61, 58, 70, 66, 49]})
    if transport.answer is not None:
        verdict = attested.attestation(transport.answer)
        print(f"attested: {verdict.summary}, level {verdict.claims.level}")
    print(f"tools: {', '.join(tool.name for tool in tools.tools)}")
    print(f"mean_age: {result.structured_content}")


def refusal(error: BaseException) -> KluisError | None:
    """The reason inside an error of MCP's client, which groups the errors of its tasks."""
    if isinstance(error, KluisError):
        return error
    for each in (*getattr(error, "exceptions", ()), error.__cause__):
        if each is not None and (found := refusal(each)):
            return found
    return None


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1]))
    except BaseException as problem:
        if reason := refusal(problem):
            sys.exit(f"nothing was sent: {reason}")
        raise
