"""Each test runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from tests.databases import database_url, postgres

__all__ = ["database_url", "postgres"]
