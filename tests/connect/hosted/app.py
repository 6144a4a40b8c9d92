"""What the tests of the proxy serve inside: it remembers what reached it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from kluis.enclave import Enclave, asgi

app = Enclave("hosted", product_id=5, svn=1)
seen: list[str] = []
gate = asyncio.Event()


async def hello(request: Request) -> Response:
    """Greet, and count."""
    seen.append(request.url.path)
    return PlainTextResponse("hello from inside")


async def echo(request: Request) -> Response:
    """What the request was."""
    seen.append(request.url.path)
    body = await request.body()
    return JSONResponse(
        {
            "method": request.method,
            "path": request.scope["raw_path"].decode(),
            "query": request.url.query,
            "fields": [
                [name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw
            ],
            "body": body.decode("latin-1"),
        },
        headers={"Connection": "keep-alive, X-Hop", "X-Hop": "1", "Alt-Svc": 'h2=":1"', "X-Kept": "yes"},
    )


async def digest(request: Request) -> Response:
    """Hash what is sent, piece by piece."""
    held, size = hashlib.sha256(), 0
    async for part in request.stream():
        held.update(part)
        size += len(part)
    return JSONResponse({"sha256": held.hexdigest(), "bytes": size})


async def large(request: Request) -> Response:
    """Send many bytes, with their length or in chunks."""
    count = int(request.query_params["mebibytes"])

    async def parts() -> AsyncIterator[bytes]:
        try:
            for _ in range(count):
                yield bytes(1 << 20)
            seen.append("all was sent")
        finally:
            seen.append("large ended")

    sized = {"Content-Length": str(count << 20)} if "sized" in request.query_params else None
    return StreamingResponse(parts(), headers=sized)


async def events(request: Request) -> Response:
    """Send an event; and the next one when another request opens the gate."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"data: one\n\n"
        await gate.wait()
        gate.clear()
        yield b"data: two\n\n"

    return StreamingResponse(parts(), media_type="text/event-stream")


async def forever(request: Request) -> Response:
    """Send nothing more after the first event, until the client is gone."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"data: one\n\n"
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("forever ended")

    return StreamingResponse(parts(), media_type="text/event-stream")


async def open_gate(request: Request) -> Response:
    """Let the next event go."""
    gate.set()
    return Response(status_code=204)


async def away(request: Request) -> Response:
    """Redirect to an absolute address."""
    return RedirectResponse(request.query_params["to"])


async def deaf(request: Request) -> Response:
    """Answer without reading the body."""
    return PlainTextResponse("no", status_code=403)


async def socket(chat: WebSocket) -> None:
    """Send back every message; close with a code when asked to."""
    await chat.accept(subprotocol="echo" if "echo" in chat.scope["subprotocols"] else None)
    seen.append("socket opened")
    try:
        while True:
            message = await chat.receive()
            if message["type"] == "websocket.disconnect":
                break
            if message.get("text") == "close":
                await chat.close(code=4001, reason="as you wish")
                break
            if (text := message.get("text")) is not None:
                await chat.send_text(text)
            else:
                await chat.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        seen.append("socket cut")
    seen.append("socket closed")


async def refused(chat: WebSocket) -> None:
    """Accept nobody."""
    await chat.close()


web = Starlette(
    routes=[
        Route("/", hello),
        Route("/echo{rest:path}", echo, methods=["GET", "POST", "PUT", "DELETE", "OPTIONS"]),
        Route("/digest", digest, methods=["POST"]),
        Route("/large", large),
        Route("/events", events),
        Route("/forever", forever),
        Route("/gate", open_gate, methods=["POST"]),
        Route("/away", away),
        Route("/deaf", deaf, methods=["POST"]),
        WebSocketRoute("/socket", socket),
        WebSocketRoute("/refused", refused),
    ]
)
asgi.host(
    app,
    web,
    limits=asgi.Limits(
        body_bytes=2 << 30,
        handshake_seconds=600.0,
        head_seconds=600.0,
        stall_seconds=600.0,
        idle_seconds=600.0,
    ),
    websockets=asgi.WebSockets(message_bytes=1 << 20, ping_seconds=600.0),
)


@app.ecall
def told() -> list[str]:
    """What reached the application, in its order."""
    return list(seen)
