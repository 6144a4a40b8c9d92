"""The application that the tests of hosting serve inside: it remembers what reached it."""

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import sys
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from kluis.enclave import Enclave, asgi, quote

app = Enclave("hosted", product_id=5, svn=1)
seen: list[str] = []


class Remembers(logging.Handler):
    """What an application logs for itself, where the host's standard error hears nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        seen.append(f"{record.getMessage()}: {record.exc_info[1] if record.exc_info else None}")


logging.getLogger("uvicorn.error").addHandler(Remembers(logging.ERROR))


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Say when it begins and ends."""
    seen.append("start-up")
    yield
    seen.append("shut-down")


async def hello(request: Request) -> Response:
    """Greet, and count."""
    seen.append(request.url.path)
    return PlainTextResponse("hello from inside")


async def digest(request: Request) -> Response:
    """Hash what is sent, piece by piece."""
    held = hashlib.sha256()
    async for part in request.stream():
        held.update(part)
    return PlainTextResponse(held.hexdigest())


async def large(request: Request) -> Response:
    """Send many bytes."""
    count = int(request.query_params["mebibytes"])

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(1 << 20)

    return StreamingResponse(parts())


async def slow(request: Request) -> Response:
    """Take a while."""
    seen.append(request.url.path)
    await asyncio.sleep(float(request.query_params.get("seconds", "0.5")))
    return PlainTextResponse("done")


async def fault(request: Request) -> Response:
    """Fail, before an answer has begun or after."""
    if "late" not in request.query_params:
        raise RuntimeError("of the application's")

    async def parts() -> AsyncIterator[bytes]:
        yield b"begun"
        raise RuntimeError("of the application's")

    return StreamingResponse(parts())


async def peer(request: Request) -> Response:
    """Name the client's code, if it has attested itself."""
    result = asgi.attested_peer(request)
    return JSONResponse({"measurement": result.claims.measurement.value.hex()})


async def where(request: Request) -> Response:
    """Say whose the request is, as it came."""
    return PlainTextResponse(f"{request.headers['host']} {request.scope['raw_path']} {request.query_params}")


web = Starlette(
    routes=[
        Route("/", hello),
        Route("/digest", digest, methods=["POST"]),
        Route("/large", large),
        Route("/slow", slow),
        Route("/fault", fault),
        Route("/peer", peer),
        Route("/where", where),
    ],
    lifespan=lifespan,
)
PATIENT = asgi.Limits(
    connections=50,
    body_bytes=8 << 20,
    handshake_seconds=600.0,
    head_seconds=600.0,
    stall_seconds=600.0,
    idle_seconds=600.0,
)
HASTY = dataclasses.replace(
    PATIENT, handshake_seconds=2.0, head_seconds=1.0, stall_seconds=2.0, idle_seconds=2.0
)
asgi.host(app, web, limits=HASTY if "hasty" in sys.argv else PATIENT)


@app.ecall
def told() -> list[str]:
    """What reached the application, in its order."""
    return seen


@app.ecall
def vouch(nonce: bytes, payload: bytes) -> list[bytes]:
    """Evidence of purpose ``app``, over any data from its host."""
    made = quote(payload, nonce=nonce)
    return [made.quote, made.runtime_data, made.launch_configuration]
