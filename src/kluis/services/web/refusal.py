"""A refusal that says exactly what goes out: status, code, message, headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kluis.errors import AuthenticityError, KluisError, UnavailableError

STORES: Final = "store_"
"""How the codes begin of what the store says of its host: nothing that the client brought, or may not do."""


class Refusal(KluisError):
    """An answer other than the wanted one.

    Args:
        status: of HTTP.
        code: as the service's clients know it, such as ``InvalidParameter``.
        message: for people; no secret.
        inner: the code of the ``innererror``.
        details: what else the error object says, one object each.
        headers: of the answer.
        hint: what mends it.
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
        """The refusal that any of our errors stands for; one that is our own bug says nothing."""
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
        """What goes out when the service itself fails."""
        return cls(500, "InternalServerError", "the service could not answer; its log has the request's id")

    def body(self) -> dict[str, Any]:
        """The error object, in the shape that Azure's clients read."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        details = [dict(one) for one in self.details]
        if self.hint:
            details.append({"code": "Hint", "message": self.hint})
        if details:
            error["details"] = details
        if self.inner is not None:
            error["innererror"] = {"code": self.inner}
        return {"error": error}
