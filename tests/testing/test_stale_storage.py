"""A rollback of the host's database is detected by instances that knew newer state."""

from __future__ import annotations

import pytest

from kluis.errors import AuthenticityError
from kluis.testing.plugin import stale_storage
from kluis.testing.stale_storage import StaleStorage

__all__ = ["stale_storage"]


def test_set_back(stale_storage: StaleStorage) -> None:
    """A running instance notices; without a witness a newly started one does not, and reports that."""
    stale_storage.storage.update(lambda store: store.put("t", "k", b"old"))
    kept = stale_storage.keep()
    stale_storage.storage.update(lambda store: store.put("t", "k", b"new"))
    stale_storage.serve(kept)

    with pytest.raises(AuthenticityError) as refused:
        stale_storage.storage.get("t", "k")
    assert refused.value.message == "store: last commit: want epoch 2 or later, got 1"
    assert refused.value.hint == (
        "the host rolled the store back, or withholds newer commits: restore the store's newest state; or,"
        " with an older backup of the store, the platform's state of the same time"
    )
    again = stale_storage.start()
    assert again.get("t", "k") == b"old"
    assert again.rollback == "undetected"
