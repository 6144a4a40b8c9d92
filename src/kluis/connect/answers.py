"""Answers of the proxy itself: each states what was wrong, in the form that clients of APIs show."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from kluis.connect.admission import RefusedError
from kluis.connect.heads import MalformedError
from kluis.errors import InternalError, KluisError, UnavailableError
from kluis.formats.encoding import jcs

RETRY_LATER: Final = b"Retry-After: 5\r\n"


def of_fault(fault: KluisError, *, body: bool = True) -> bytes:
    """A response that ends its connection.

    Args:
        fault: of a request, of the enclave's verification, or of its connection.
        body: False for the answer to ``HEAD``.
    """
    status, message = status_of(fault), fault.message
    if not isinstance(fault, MalformedError | RefusedError | UnavailableError):
        message = f"the enclave is refused: {message}"
    value = {"code": fault.code, "message": f"{message} ({fault.hint})" if fault.hint else message}
    content = jcs.dumps({"error": value})
    more = {503: RETRY_LATER, 401: b"WWW-Authenticate: Bearer\r\n"}.get(status, b"")
    head = (
        b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Cache-Control: no-store\r\n%bConnection: close\r\n\r\n"
    ) % (status, HTTPStatus(status).phrase.encode(), len(content), more)
    return head + content if body else head


def status_of(fault: KluisError) -> int:
    """The status of HTTP: 502 for another enclave than the required one, 503 if there is none."""
    match fault:
        case MalformedError() | RefusedError():
            return fault.status
        case UnavailableError() | InternalError():
            return 503
        case _:
            return 502
