"""The request that a handler receives, and the response that it returns."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from kluis.errors import FormatError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.frozen import frozen
from kluis.services.web.bearer import Caller

T = TypeVar("T")


@frozen(kw_only=True)
class Call:
    """One request.

    Attributes:
        operation: the operation's name.
        target: the path as sent, undecoded.
        path: the path's parameters by name, decoded, as sent.
        query: the first value of each name; for an operation with versions, by lower-case name.
        headers: by lower-case name; several of one name are joined with commas.
        body: bytes, within the operation's limit; not shown in a ``repr``.
        caller: verified; None if anyone may call.
        certificates: the client's TLS certificates, PEM, if one was requested: the client has the first one's
            private key, and nothing else of them is verified.
        request_id: of this request, for the log.
    """

    operation: str
    target: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = dataclasses.field(repr=False)
    caller: Caller | None
    request_id: str
    certificates: tuple[str, ...] = ()

    @property
    def version(self) -> str | None:
        """The requested ``api-version``."""
        return self.query.get("api-version")

    def json(self, kind: type[T]) -> T:
        """Decode the body.

        Args:
            kind: the expected type; unknown members are ignored.

        Raises:
            FormatError: it is not JSON, or of another shape; with the place.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        except RecursionError:
            raise FormatError("body: is nested too deeply", code="too_deep") from None
        except UNREADABLE as error:
            message = re.sub(r"^[A-Z](?=[a-z])", lambda first: first[0].lower(), str(error))
            raise FormatError(f"body: {message}"[:MOST_MESSAGE]) from None


@frozen
class Answer:
    """One response.

    Attributes:
        body: a msgspec Struct or any JSON value; or text or bytes, sent unchanged; None for an empty one.
        status: HTTP status.
        content_type: by default JSON's, or text's for text.
        headers: in addition to those of every response.
    """

    body: Any = None
    status: int = 200
    content_type: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def encode(self) -> tuple[bytes, str | None]:
        """Encode the body: its bytes and their type."""
        if self.body is None:
            return b"", self.content_type
        if isinstance(self.body, bytes):
            return self.body, self.content_type or "application/octet-stream"
        if isinstance(self.body, str):
            return self.body.encode(), self.content_type or "text/plain; charset=utf-8"
        return msgspec.json.encode(self.body), self.content_type or "application/json; charset=utf-8"


MOST_MESSAGE = 500
