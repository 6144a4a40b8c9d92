"""The console's ASGI application: its routes, and one wrapper for every handler."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from kluis.console import evidence, machine, rooms
from kluis.console.access import FIELD, Gate
from kluis.console.state import Console
from kluis.errors import FormatError, KluisError, UsageError

MAX_FILES: Final = 8
MAX_FIELDS: Final = 64
MAX_FIELD: Final = 4096
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
Handler = Callable[[Console, Request], Awaitable[Response]]
FormHandler = Callable[[Console, Request, FormData], Awaitable[Response]]


def build(console: Console) -> ASGIApp:
    """The application of a console, with its checks in front."""
    static = _static()

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in static:
            raise HTTPException(404)
        return Response(static[name], media_type=_TYPES[name[name.rindex(".") :]])

    get: tuple[tuple[str, Handler], ...] = (
        ("/", machine.running),
        ("/machine", machine.protections),
        ("/evidence", evidence.form),
        ("/rooms", rooms.list_rooms),
        ("/rooms/{room}", rooms.agreement),
        ("/rooms/{room}/receipts", rooms.receipts),
        ("/rooms/{room}/events", rooms.events),
        ("/rooms/{room}/events/stream", rooms.stream),
    )
    post: tuple[tuple[str, FormHandler], ...] = (
        ("/evidence", evidence.judge),
        ("/rooms/{room}/sign", rooms.sign),
        ("/machine", machine.examine_again),
    )
    inner = Starlette(
        routes=[
            Route("/static/{name}", asset, methods=["GET"]),
            *(Route(path, _get(console, handler), methods=["GET"]) for path, handler in get),
            *(Route(path, _post(console, handler), methods=["POST"]) for path, handler in post),
        ],
        exception_handlers={
            KluisError: functools.partial(_fault, console),
            HTTPException: functools.partial(_render_refusal, console),
        },
    )
    return Gate(inner, console.access)


def _get(console: Console, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def run(request: Request) -> Response:
        return await handler(console, request)

    return run


def _post(console: Console, handler: FormHandler) -> Callable[[Request], Awaitable[Response]]:
    """A handler of forms: the form is bounded, and has the session's second token."""

    async def run(request: Request) -> Response:
        async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD) as form:
            console.access.check_form(form.get(FIELD))
            return await handler(console, request, form)

    return run


async def _fault(console: Console, request: Request, fault: KluisError) -> Response:
    return console.pages.error(request, fault)


async def _render_refusal(console: Console, request: Request, fault: HTTPException) -> Response:
    if fault.status_code == 404:
        error: KluisError = UsageError("page: there is no such page", hint="choose one of the pages above")
    elif fault.status_code == 413:
        error = FormatError(str(fault.detail), code="too_large")
    else:
        error = UsageError(f"request: {fault.detail}")
    response = console.pages.error(request, error)
    response.status_code = fault.status_code
    return response


def _static() -> dict[str, bytes]:
    """The console's own files by name; nothing else of the disk is served."""
    folder = resources.files("kluis.console") / "static"
    return {each.name: each.read_bytes() for each in folder.iterdir() if Path(each.name).suffix in _TYPES}
