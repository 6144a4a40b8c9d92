"""A sealed store over SQLite, as a vault in an enclave has it."""

from __future__ import annotations

from kluis.testing.plugin import storage
from tests.databases import database_url, postgres

__all__ = ["database_url", "postgres", "storage"]
