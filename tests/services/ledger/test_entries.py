"""Azure's entries: written, read back, listed and proven."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.ledger.world import READER, Served, World, run


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A ledger of its own."""
    return World(tmp_path / "ledger")


def test_what_is_written_is_read_and_committed(world: World) -> None:
    """The answer to a write comes after its commit, with the transaction's id."""

    async def test(served: Served) -> None:
        txid = await served.write("Hello world")
        status = await served.ask("GET", f"/app/transactions/{txid}/status")
        assert status.json() == {"state": "Committed", "transactionId": txid}
        entry = (await served.ask("GET", f"/app/transactions/{txid}")).json()
        assert entry == {
            "state": "Ready",
            "entry": {"contents": "Hello world", "collectionId": "subledger:0", "transactionId": txid},
        }
        current = (await served.ask("GET", "/app/transactions/current", READER)).json()
        assert current["contents"] == "Hello world"

    run(world, test)
