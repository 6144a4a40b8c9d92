"""A site with a page, a WebSocket, embeddings of hashed words, and a server of MCP, served inside."""

import contextlib
import hashlib
import math
import statistics
from collections.abc import AsyncIterator

from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from kluis.enclave import Enclave, asgi

app = Enclave("pages", product_id=5, svn=1)
seen: list[str] = []
tools = MCPServer("statistics")

PAGE = """<!doctype html><title>inside</title><p id="said">waiting</p><script>
const said = document.getElementById("said");
const chat = new WebSocket(`ws://${location.host}/chat`);
chat.onopen = () => chat.send("hello");
chat.onerror = () => { said.textContent = "no WebSocket"; };
chat.onmessage = async (event) => {
  const answer = await fetch("/words", {method: "POST", body: event.data});
  said.textContent = `${event.data} ${(await answer.json()).length}`;
};
</script>"""


@tools.tool()
def mean(numbers: list[float]) -> float:
    """The mean of some numbers."""
    seen.append("mean")
    return statistics.fmean(numbers)


async def page(request: Request) -> Response:
    """A page that opens a WebSocket, and sends what it hears."""
    seen.append("page")
    return HTMLResponse(PAGE)


async def words(request: Request) -> Response:
    """The words of a text, counted in 64 places by their hashes."""
    seen.append("words")
    counts = [0.0] * 64
    for word in (await request.body()).split():
        counts[hashlib.sha256(word).digest()[0] % 64] += 1.0
    length = math.hypot(*counts) or 1.0
    return JSONResponse([count / length for count in counts])


async def chat(socket: WebSocket) -> None:
    """Send back every text."""
    await socket.accept()
    seen.append("chat")
    async for text in socket.iter_text():
        await socket.send_text(text)


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Run the sessions of MCP."""
    async with tools.session_manager.run():
        yield


served = tools.streamable_http_app(
    transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False)
)
web = Starlette(
    routes=[
        Route("/", page),
        Route("/words", words, methods=["POST"]),
        WebSocketRoute("/chat", chat),
        Mount("/", served),
    ],
    lifespan=lifespan,
)
asgi.host(app, web, websockets=asgi.WebSockets())


@app.ecall
def told() -> list[str]:
    """What reached the application, in its order."""
    return list(seen)
