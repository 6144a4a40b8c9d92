"""A sealed key-value store kept by the host, which cannot read keys or values, or change or roll back a
record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kluis.enclave.store.model import Reading, Storage, Writing
from kluis.enclave.store.records import Records
from kluis.enclave.store.sealed import SealedStore
from kluis.enclave.store.witness import Witness

if TYPE_CHECKING:
    from kluis.enclave.store.keys.custody import declare

__all__ = ["Reading", "Records", "SealedStore", "Storage", "Witness", "Writing", "declare"]


def __getattr__(name: str) -> Any:
    """Load what hands keys over when it is first named: hosts of stores do without it."""
    if name != "declare":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kluis.enclave.store.keys.custody import declare

    return declare
