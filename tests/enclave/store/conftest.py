"""Stores: without an enclave, the real ones over SQLite; and in rehearsed enclaves."""

from __future__ import annotations

from kluis.testing.plugin import enclave, other_platform, stale_storage, storage
from tests.databases import database_url, postgres
from tests.launching import rehearsal_platform

__all__ = [
    "database_url",
    "enclave",
    "other_platform",
    "postgres",
    "rehearsal_platform",
    "stale_storage",
    "storage",
]
