"""A refusal with its exact response: status, code, message, headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kluis.errors import AuthenticityError, KluisError, UnavailableError

STORES: Final = "store_"
"""Prefixes of the store's error codes about its host: not caused by the client's input or rights."""


class Refusal(KluisError):
    """An error response.

    Args:
        status: HTTP status.
        code: known to the service's clients, such as ``InvalidParameter``.
        message: for people; contains no secret.
        inner: the code of the ``innererror``.
        details: further objects in the error object.
        headers: of the response.
        hint: how to fix it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        inner: str | None = None,
        details: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status
        self.inner = inner
        self.details = details
        self.headers = dict(headers or {})

    @classmethod
    def of(cls, error: KluisError) -> Refusal:
        """The refusal for any of our errors; an internal error has no details."""
        if isinstance(error, Refusal):
            return error
        if error.http_status == 500:
            return cls.unexpected()
        status = error.http_status
        if isinstance(error, AuthenticityError) and error.code.startswith(STORES):
            status = UnavailableError.http_status
        return cls(status, error.code, error.message, hint=error.hint)

    @classmethod
    def unexpected(cls) -> Refusal:
        """The response when the service itself fails."""
        return cls(500, "InternalServerError", "the service could not answer; its log has the request's id")

    def body(self) -> dict[str, Any]:
        """The error object, in the form of Azure's clients."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        details = [dict(one) for one in self.details]
        if self.hint:
            details.append({"code": "Hint", "message": self.hint})
        if details:
            error["details"] = details
        if self.inner is not None:
            error["innererror"] = {"code": self.inner}
        return {"error": error}
