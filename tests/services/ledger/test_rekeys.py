"""Rekeys at whose batch another node starts: whatever reached the log can be read by the next node."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import timedelta
from typing import Any

import pytest

from kluis.errors import UnavailableError
from kluis.formats.ccf import tables
from kluis.formats.ccf.txid import TxId
from kluis.ledger import certificates
from kluis.serve.ledger.log import LedgerLog
from kluis.services.ledger.node import Node
from kluis.services.ledger.running.engine import Result
from kluis.services.web import Refusal
from tests.services.ledger.test_engine import Gated
from tests.services.ledger.world import World


class Rekey:
    """The effects of an accepted proposal."""

    endorsed, closes_chunk = (), False

    def __init__(self, renewed: str | None = None) -> None:
        self.renewed = renewed
        self.rekeyed = os.urandom(32) if renewed is None else None


async def rekey(node: Node) -> TxId:
    """Change the ledger's secret, as an accepted proposal does."""

    def work(state: Any) -> Result:
        state.put("app.x", b"k", b"v")
        return Result(None, after=lambda txid: node.carry_out(Rekey()))

    return (await node.engine.write(work, alone=True)).txid


def restart(world: World) -> Node:
    """The next node, once it has begun."""
    with LedgerLog(world.folder) as log:
        node = world.node(log)
        node.begin("127.0.0.1:8001")
        return node


def test_a_batch_that_another_node_did_not_wait_for(world: World) -> None:
    """The disk takes the rekey's batch after the next node looked at the log: that node is refused."""
    later = []

    async def test() -> None:
        with LedgerLog(world.folder) as log:
            gated = Gated(log)
            async with world.serving(gated) as old:
                await old.write("one")
                gated.open.clear()
                done = asyncio.create_task(rekey(old.node))
                await asyncio.to_thread(gated.waiting.wait)
                new = world.node(log)
                new._prepared = new._prepare("127.0.0.1:8001")
                gated.open.set()
                later.append((await done).seqno)
                with pytest.raises(UnavailableError):
                    new.begin("127.0.0.1:8001")
                later.append(await old.write("under the next secret"))

    asyncio.run(test())
    node = restart(world)
    assert node.ledger.committed.seqno > later[0]
    assert [one.version for one in node.ledger.secrets.all][-1] == later[0] + 1


def test_a_node_whose_view_is_over_keeps_no_secret(world: World) -> None:
    """What the next node read is all that the log may need: the older one ends."""

    async def test() -> None:
        with LedgerLog(world.folder) as log:
            async with world.serving(Gated(log)) as old:
                await old.write("one")
                new = world.node(log)
                new._prepared = new._prepare("127.0.0.1:8001")
                with pytest.raises(Refusal, match="the log did not answer"):
                    await rekey(old.node)
                assert "another node took it" in str(old.node.engine.ended)
                new.begin("127.0.0.1:8001")

    asyncio.run(test())
    assert len(restart(world).ledger.secrets.all) == 1


@pytest.mark.parametrize("batches", [0, 1])
def test_a_secret_whose_batch_is_lost(world: World, batches: int) -> None:
    """Its node ended before the disk took it: the next ones go on under the secret before."""

    async def test() -> None:
        with LedgerLog(world.folder) as log:
            gated = Gated(log)
            async with world.serving(gated) as old:
                await old.write("one")
                gated.answers = ["fenced"]
                with pytest.raises(Refusal, match="was rolled back"):
                    await rekey(old.node)

    asyncio.run(test())
    for _ in range(1 + batches):
        node = restart(world)
        assert len(node.ledger.secrets.all) == 1
    world.open = False

    async def again() -> None:
        async with world.serving() as served:
            assert (await rekey(served.node)).seqno > 1
            await served.write("under the next secret")

    asyncio.run(again())
    assert len(restart(world).ledger.secrets.all) == 2


def test_a_renewed_certificate_that_never_reached_the_log(world: World) -> None:
    """It was kept, and its node ended first: the next node has the log's, as an auditor compares."""
    shown: list[str] = []

    async def test() -> None:
        with LedgerLog(world.folder) as log:
            async with world.serving(Gated(log)) as old:
                await old.write("one")
                service = old.node.service
                shown.append(service.certificate)
                renewed = certificates.service_certificate(
                    service.key, world.clock.now(), name="renewed", validity=timedelta(days=9)
                )
                old.node.carry_out(Rekey(renewed))
                assert old.node.service.certificate == renewed

    asyncio.run(test())
    node = restart(world)
    assert node.service.certificate == shown[0]
    row = node.ledger.store.begin().get(tables.SERVICE_INFO, tables.ONLY)
    assert row is not None
    assert json.loads(row)["cert"] == shown[0]
