"""The key service's errors, with the codes that clients of Azure Key Vault check.

The messages are Azure's if its clients or users know them, with its capitals and periods.

Spec: Azure Key Vault REST API, "Authentication, requests and responses", "Error responses".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from kluis.errors import PolicyError, UsageError


class Detail(NamedTuple):
    """One reason, for machines: Kluis's own ``error.details``.

    Attributes:
        code: the kind of reason: ``claim``, ``token``, ``authority``, ``runtime_key``.
        target: its subject, such as a claim's name.
        message: want and got.
    """

    code: str
    target: str
    message: str


class BadParameter(UsageError):
    """An invalid request: a member, a name, a combination."""

    wire: ClassVar[str] = "BadParameter"
    inner: str | None = None
    details: Sequence[Detail] = ()


class Forbidden(PolicyError):
    """The key, its attributes, its operations or its release policy do not allow it.

    Args:
        message: sent to the client.
        inner: the finer code, ``innererror.code``.
        details: the reasons, for callers that may see them.
    """

    wire: ClassVar[str] = "Forbidden"

    def __init__(self, message: str, inner: str | None = None, details: Sequence[Detail] = ()) -> None:
        super().__init__(message)
        self.inner = inner
        self.details = tuple(details)


class KeyNotFound(UsageError):
    """No key, or no version, has the name."""

    http_status = 404
    wire: ClassVar[str] = "KeyNotFound"
    inner: str | None = None
    details: Sequence[Detail] = ()

    said: ClassVar[str] = (
        "A key with (name/id) {} was not found in this key vault. If you recently deleted "
        "this key you may be able to recover it using the correct recovery command."
    )

    def __init__(self, identifier: str) -> None:
        super().__init__(self.said.format(identifier))


class DeletedKeyNotFound(KeyNotFound):
    """No deleted key has the name; an existing one may."""

    said: ClassVar[str] = "Deleted Key not found: {}"


class Conflict(UsageError):
    """The name's state does not allow the request.

    Args:
        message: sent to the client.
        inner: the finer code, ``innererror.code``.
    """

    http_status = 409
    wire: ClassVar[str] = "Conflict"
    details: Sequence[Detail] = ()

    def __init__(self, message: str, inner: str | None = None) -> None:
        super().__init__(message)
        self.inner = inner
