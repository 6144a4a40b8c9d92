"""A sealed key-value store kept by the host, which cannot read keys or values, or change or roll back a
record.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kluis.enclave.store.model import Reading, Storage, Writing
from kluis.enclave.store.records import Records
from kluis.enclave.store.sealed import SealedStore
from kluis.enclave.store.witness import Witness

if TYPE_CHECKING:
    from kluis.enclave.store.keys.custody import declare

__all__ = ["Reading", "Records", "SealedStore", "Storage", "Witness", "Writing", "declare"]


_LATE = {"declare": "kluis.enclave.store.keys.custody"}


def __getattr__(name: str) -> Any:
    """Load what hands keys over on first use: hosts of stores do without it."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATE[name]), name)
