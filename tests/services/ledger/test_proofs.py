"""A receipt of the last batch, made of what the node has, equals the one made of what its host returns."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from typing import Any

import pytest

from kluis.errors import UnavailableError
from kluis.ledger.governance.service import NodeEffects
from kluis.services.ledger.node import Node
from kluis.services.ledger.running.engine import Result
from kluis.services.ledger.running.receipts import Proven, prove
from kluis.services.ledger.running.state import Ledger
from tests.services.ledger.world import Served, World

CHOICES: dict[str, dict[str, Any]] = {
    "dual": {},
    "cose only": {"cose_only": True},
    "public": {"public": True},
    "public, cose only": {"cose_only": True, "public": True},
}


def _receipt(proven: Proven, ledger: Ledger) -> list[object]:
    """Both receipts, or why there is none."""
    made: list[object] = [proven.writes(ledger), proven.raw, proven.components, proven.signatures]
    for make in (lambda: proven.receipt(ledger).to_json(), lambda: proven.cose(ledger)):
        try:
            made.append(make())
        except UnavailableError as error:
            made.append(error.message)
    return made


async def _compare(node: Node) -> int:
    """Compare the receipts of each entry of the last batch; how many there were."""
    ledger = node.ledger
    batch = ledger.sealed
    assert batch is not None
    for txid in batch.txids:
        assert ledger.sealed is batch
        quick = await prove(ledger, node.engine._log, txid)
        assert quick.part is None
        ledger.sealed = None
        ledger.signed.clear()
        try:
            parsed = await prove(ledger, node.engine._log, txid)
        finally:
            ledger.sealed = batch
        assert parsed.part is not None
        assert _receipt(quick, ledger) == _receipt(parsed, ledger)
        assert dataclasses.replace(parsed, part=None) == quick
    return len(batch.txids)


async def _several(served: Served) -> None:
    """Entries of one batch: of several collections, with tags, with and without claims."""

    def claim(state: Any) -> Result:
        state.put("public:app", b"key", b"value")
        state.put("app", b"key", b"value")
        state.remove("app", b"other")
        return Result(None, bytes(range(32)))

    await asyncio.gather(
        served.write("one"),
        served.write("two", "collectionId=c&tags=a,b"),
        served.write("x" * 8000, "collectionId=d"),
        served.node.engine.write(claim),
    )


@pytest.mark.parametrize("choice", CHOICES)
def test_each_receipt_is_the_same(world: World, choice: str) -> None:
    """First after the start, in batches of several, in the batch of a rekey and after it, after a restart."""
    world.settings |= CHOICES[choice]

    async def test() -> None:
        for restart in range(2):
            async with world.serving() as served:
                node = served.node
                assert await _compare(node) >= 1
                await _several(served)
                assert await _compare(node) >= 2

                def rekey(state: Any, node: Node = node, restart: int = restart) -> Result:
                    effects = NodeEffects(node.knowledge(), 0, os.urandom)
                    effects.rekeyed = bytes([restart]) * 32
                    node.carry_out(effects)
                    state.put("public:app", b"rekeyed", b"%d" % restart)
                    return Result(None)

                await asyncio.gather(served.write("before"), node.engine.write(rekey), served.write("after"))
                assert await _compare(node) >= 2
                await _several(served)
                assert await _compare(node) >= 2

    asyncio.run(test())
