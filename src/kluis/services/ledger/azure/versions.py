"""The versions of Azure Confidential Ledger's API, and what came with which.

Spec: Azure/azure-rest-api-specs, ``specification/confidentialledger/data-plane/ConfidentialLedger``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from kluis.services.web import Answer, Call, Operation, Refusal

STABLE: Final = "2022-05-13"
PREVIEW: Final = "2024-12-09-preview"
GA: Final = "2026-02-23"
NEWEST: Final = "2026-07-31-preview"
# Rising; the others are older previews, which published clients still name.
VERSIONS: Final = (
    "0.1-preview", STABLE, "2024-01-26-preview", "2024-08-22-preview", PREVIEW, GA, NEWEST,
)  # fmt: skip
Handler = Callable[[Call], Awaitable[Answer]]


def since(version: str, handler: Handler) -> Handler:
    """A handler that answers from a version on; before it, the path is not there.

    Raises:
        Refusal: 400, no version or an unknown one; 404, an older one.
    """
    first = VERSIONS.index(version)

    async def check(call: Call) -> Answer:
        wanted = call.query.get("api-version")
        if wanted is None:
            raise Refusal(
                400,
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
                hint=f"add ?api-version={GA}",
            )
        if wanted not in VERSIONS:
            raise Refusal(
                400,
                "UnsupportedApiVersionValue",
                f"Unsupported api-version {wanted[:40]!a}. The supported api-versions are:"
                f" {', '.join(VERSIONS)}",
            )
        if VERSIONS.index(wanted) < first:
            raise Refusal(
                404, "ResourceNotFound", f"{call.target[:200]}: came with api-version {version}, got {wanted}"
            )
        return await handler(call)

    return check


def operation(
    name: str,
    method: str,
    path: str,
    version: str,
    handler: Any,
    access: str,
    query: Mapping[str, bool] | None = None,
    *,
    body: Any = None,
    status: int = 200,
) -> Operation:
    """An operation that answers from a version on; the handler's docstring is its summary."""
    return Operation(
        name=name,
        method=method,
        path=path,
        handler=since(version, handler),
        summary=handler.__doc__,
        access=access,
        versioned=False,
        query={"api-version": True, **(query or {})},
        body=body,
        status=status,
    )


def at_least(call: Call, version: str) -> bool:
    """Whether a request is of a version or a later one."""
    return VERSIONS.index(call.query["api-version"]) >= VERSIONS.index(version)
