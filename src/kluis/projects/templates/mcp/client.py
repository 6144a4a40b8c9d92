"""An MCP client: it sends nothing before the enclave at the other end meets the policy.

python project_name/client.py https://127.0.0.1:8443
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from kluis.appraisal import AttestationResult
from kluis.errors import KluisError
from kluis.host import attested

POLICY = Path(__file__).with_name("policy.toml")


async def main(url: str) -> None:
    """List the tools, call one, and print the answer and what was verified."""
    verdicts: list[AttestationResult] = []

    async def keep(answer: httpx2.Response) -> None:
        verdicts.append(attested.attestation(answer))

    transport = attested.async_httpx2_transport(POLICY)
    async with (
        httpx2.AsyncClient(transport=transport, timeout=60, event_hooks={"response": [keep]}) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
    ):
        tools = await client.list_tools()
        result = await client.call_tool("mean_age", {"ages": [61, 58, 70, 66, 49]})
    print(f"attested: {verdicts[-1].summary}, level {verdicts[-1].claims.level}")
    print(f"tools: {', '.join(tool.name for tool in tools.tools)}")
    print(f"mean_age: {result.structured_content}")


def refusal(error: BaseException) -> KluisError | httpx2.ConnectError | None:
    """The reason inside an error of MCP's client, which groups the errors of its tasks."""
    if isinstance(error, KluisError | httpx2.ConnectError):
        return error
    for each in (*getattr(error, "exceptions", ()), error.__cause__):
        if each is not None and (cause := refusal(each)):
            return cause
    return None


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} https://HOST:PORT")
    try:
        asyncio.run(main(sys.argv[1]))
    except BaseException as problem:
        reason = refusal(problem)
        if isinstance(reason, httpx2.ConnectError):
            sys.exit(f"{sys.argv[1]} cannot be reached: {reason}")
        if reason is not None:
            sys.exit("\n".join([f"nothing was sent: {reason}", *getattr(reason, "__notes__", [])]))
        raise
