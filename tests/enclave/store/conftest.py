"""Stores without an enclave: the real ones, over SQLite."""

from __future__ import annotations

from kluis.testing.plugin import stale_storage, storage

__all__ = ["stale_storage", "storage"]
