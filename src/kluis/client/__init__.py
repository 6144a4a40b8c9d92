"""Clients of other projects, unmodified, over connections that verify the enclave at the other end.

::

    client = OpenAI(base_url="https://127.0.0.1:8443/v1", policy="policy.toml")
    client.embeddings.create(model="embeddings", input="a prompt that only the enclave reads")
    client.attestation    # the verdict on the enclave that answered
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kluis.errors import UnavailableError

if TYPE_CHECKING:
    from kluis.client.openai_clients import AsyncOpenAI, OpenAI
    from kluis.client.unlocking import Unlocked, unlock_model

__all__ = ["AsyncOpenAI", "OpenAI", "Unlocked", "unlock_model"]

_LATE = {
    "AsyncOpenAI": "kluis.client.openai_clients",
    "OpenAI": "kluis.client.openai_clients",
    "Unlocked": "kluis.client.unlocking",
    "unlock_model": "kluis.client.unlocking",
}


def __getattr__(name: str) -> Any:
    """Import a client on first use, because each needs another package.

    Raises:
        UnavailableError: that package is not installed.
    """
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_LATE[name]), name)
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("kluis."):
            raise
        from kluis import installing  # which only an error needs

        raise UnavailableError(
            f"kluis.client.{name}: want the package {error.name}, got none",
            hint=installing.command_for("openai"),
        ) from None
