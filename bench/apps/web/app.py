"""A small ASGI application, the same inside and outside."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def echo(request: Request) -> Response:
    """Answer with the size of the request body."""
    return JSONResponse({"bytes": len(await request.body())})


web = Starlette(routes=[Route("/", echo, methods=["POST"])])
