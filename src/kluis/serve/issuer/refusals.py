"""The issuer's refusals: an OAuth error, with Microsoft Entra's number if it has one.

Spec: RFC 6749, "Error Response"; Microsoft Entra, "Microsoft Entra authentication and authorization error
codes". Numbers are from that page and from azure-identity's troubleshooting guides. 700024, 700211 to 700213
and 900144 have Entra's own messages, as quoted in its clients' issues and tests. If no number is known, none
is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kluis.services.web import Refusal

MOST_SHOWN: Final = 200
MOST_RESOURCE: Final = 1024


def refusal(error: str, why: str, *, number: int | None = None, status: int | None = None) -> Refusal:
    """Build a refusal.

    Args:
        error: OAuth's error code.
        why: the error, with want and got.
        number: Entra's, as in AADSTS700027.
        status: HTTP status; by default 401 for failed client authentication, and 400.
    """
    at = status or (401 if error == "invalid_client" else 400)
    text = why if number is None else f"AADSTS{number}: {why}"
    return Refusal(at, error, text, inner=None if number is None else str(number))


def answer(refusal: Refusal) -> Response:
    """The refusal in the form that MSAL reads."""
    body: dict[str, object] = {"error": refusal.code, "error_description": refusal.message}
    if refusal.inner is not None:
        body["error_codes"] = [int(refusal.inner)]
    return JSONResponse(body, refusal.status, refusal.headers)


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):  # of the router: 404, or 405 and what is allowed
        wanted, got = "path: want one of the issuer's", request.url.path
        if error.status_code == 405:
            allowed = sorted(dict(error.headers or {}).get("Allow", "").split(", "))
            wanted, got = f"method: want {' or '.join(allowed)}", request.method
        why = f"{wanted}, got {show(got)}"
        error = Refusal(error.status_code, "invalid_request", why, headers=error.headers)
    return answer(
        error if isinstance(error, Refusal) else Refusal(500, "server_error", "the issuer could not answer")
    )


HANDLERS: Final[Mapping[Any, Callable[..., Any]]] = dict.fromkeys(
    (Refusal, HTTPException, Exception), _refuse
)
"""Every exception of an endpoint becomes a refusal; internal errors without details."""


def show(value: object) -> str:
    """Format client input for a refusal."""
    return ascii(value)[:MOST_SHOWN]
