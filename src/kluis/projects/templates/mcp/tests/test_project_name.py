"""The MCP server as its clients see it: over TLS that ends inside, after the evidence was checked."""

from pathlib import Path

APP = Path(__file__).parents[1] / "app.py"
HEADERS = {"Accept": "application/json, text/event-stream"}


def call(client, ages):
    request = {"name": "mean_age", "arguments": {"ages": ages}}
    answer = client.post(
        "/mcp", headers=HEADERS, json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": request}
    )
    return answer.json()["result"]


def test_mean_age(attested_client):
    client = attested_client(APP)
    assert call(client, [61, 58, 70, 66, 49])["structuredContent"] == {"result": 60.8}
    assert call(client, [61])["isError"]
