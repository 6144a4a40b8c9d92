"""What the issuer answers who gets no token: an OAuth error, with Microsoft Entra's number where it has one.

Spec: RFC 6749, "Error Response"; Microsoft Entra, "Handling error codes in your application". Numbers are of
those pages and of azure-identity's troubleshooting guide; where none is known, none is given.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response

from kluis.services.web import Refusal

__all__ = ["MOST_SHOWN", "answer", "refused", "shown"]

MOST_SHOWN: Final = 200


def refused(error: str, why: str, *, number: int | None = None, status: int | None = None) -> Refusal:
    """A refusal.

    Args:
        error: OAuth's word.
        why: what was wrong, want and got.
        number: Entra's, as in AADSTS700027.
        status: of HTTP; otherwise 401 for a client that is not who it says, and 400.
    """
    at = status or (401 if error == "invalid_client" else 400)
    told = why if number is None else f"AADSTS{number}: {why}"
    return Refusal(at, error, told, inner=None if number is None else str(number))


def answer(refusal: Refusal) -> Response:
    """The refusal as MSAL reads it."""
    body: dict[str, object] = {"error": refusal.code, "error_description": refusal.message}
    if refusal.inner is not None:
        body["error_codes"] = [int(refusal.inner)]
    return JSONResponse(body, refusal.status)


def shown(value: object) -> str:
    """What somebody sent, as a refusal shows it."""
    return ascii(value)[:MOST_SHOWN]
