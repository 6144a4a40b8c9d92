"""Private inference: the API of OpenAI, from weights that only this image can read.

The image contains models.sealed, which `kluis model seal` wrote. The owner sends its key over attested TLS
(`kluis model unlock`), or the key service that vault.json identifies releases it. Before, answers are 503.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keys
from inference import Engine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from wire import (
    BadRequest,
    ChatRequest,
    EmbeddingsRequest,
    chat_answer,
    chat_events,
    embeddings_answer,
    parse,
)

from kluis.enclave import Enclave, asgi
from kluis.errors import KluisError

SEALED = Path(__file__).with_name("models.sealed")

app = Enclave("project_name", product_id=1, svn=1)
state = keys.Door(SEALED, Engine)


async def list_models(request: Request) -> Response:
    """GET /v1/models."""
    engine = state.engine()
    models = [
        {"id": name, "object": "model", "created": 0, "owned_by": "project_name"} for name in engine.names
    ]
    return JSONResponse({"object": "list", "data": models})


async def embed(request: Request) -> Response:
    """POST /v1/embeddings."""
    engine = state.engine()
    wanted = parse(await request.body(), EmbeddingsRequest)
    vectors, tokens = await engine.embed(wanted.model, wanted.texts())
    return JSONResponse(embeddings_answer(wanted, vectors, tokens))


async def chat(request: Request) -> Response:
    """POST /v1/chat/completions."""
    engine = state.engine()
    wanted = parse(await request.body(), ChatRequest)
    reply = await engine.chat(wanted.model, wanted)
    if wanted.stream:
        events = chat_events(wanted, reply)
        return StreamingResponse(
            events, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
    async for _ in reply.pieces():
        if await request.is_disconnected():
            return Response(status_code=499)  # nobody reads it
    return JSONResponse(chat_answer(wanted, reply))


def refuse(status: int, kind: str, message: str, code: str) -> Response:
    """An error in the form of OpenAI's."""
    body: dict[str, Any] = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": body}, status_code=status)


async def bad_request(request: Request, error: Exception) -> Response:
    """A request that cannot be answered."""
    return refuse(400, "invalid_request_error", str(error), "bad_request")


async def refuse_locked(request: Request, error: Exception) -> Response:
    """A request before the key."""
    hint = "the model's owner sends its key with kluis model unlock"
    return refuse(503, "unavailable", f"the model is locked: {hint}", "model_locked")


async def ours(request: Request, error: Exception) -> Response:
    """An error of Kluis's, which contains no secret."""
    known = error if isinstance(error, KluisError) else KluisError("unknown")
    return refuse(known.http_status, type(known).__name__, known.message, known.code)


async def http_error(request: Request, error: Exception) -> Response:
    """Another path or method, or a body that is too large."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    return refuse(status, "invalid_request_error", str(getattr(error, "detail", "error")), "http")


web = Starlette(
    routes=[
        Route("/v1/models", list_models),
        Route("/v1/embeddings", embed, methods=["POST"]),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        *keys.routes(state),
    ],
    exception_handlers={
        BadRequest: bad_request,
        keys.Locked: refuse_locked,
        KluisError: ours,
        HTTPException: http_error,
    },
)
asgi.host(app, web, limits=asgi.Limits(body_bytes=1 << 20))
