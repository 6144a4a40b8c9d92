"""A small ASGI application, the same inside and outside."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


async def echo(request: Request) -> Response:
    """Answer with the size of the request body."""
    return JSONResponse({"bytes": len(await request.body())})


async def chat(socket: WebSocket) -> None:
    """Send every message back."""
    await socket.accept()
    async for message in socket.iter_bytes():
        await socket.send_bytes(message)


web = Starlette(routes=[Route("/", echo, methods=["POST"]), WebSocketRoute("/chat", chat)])
