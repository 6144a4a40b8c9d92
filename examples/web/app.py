"""A web service whose host cannot read what its clients send: a Starlette application, inside.

kluis build examples/web -o web.kluis --key author.pem
python examples/web/host.py web.kluis
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kluis.enclave import Enclave, asgi

app = Enclave("web", product_id=9, svn=1)


async def mean(request: Request) -> Response:
    """The mean of at least five numbers."""
    numbers = await request.json()
    if len(numbers) < 5:
        return JSONResponse({"error": "want at least 5 numbers"}, status_code=400)
    return JSONResponse({"mean": sum(numbers) / len(numbers)})


asgi.host(app, Starlette(routes=[Route("/mean", mean, methods=["POST"])]))
