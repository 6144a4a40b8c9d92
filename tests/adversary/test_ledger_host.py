"""A ledger's host as the adversary: two nodes that it keeps apart, and a log or witness that fails midway."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from kluis.enclave.counters import MarkedReading
from kluis.errors import UnavailableError, UsageError
from kluis.serve.ledger.log import LedgerLog
from kluis.services.ledger.genesis import Quoted
from kluis.services.ledger.identity import NodeIdentity
from kluis.services.ledger.running import engine
from kluis.services.ledger.running.state import Witnessed
from kluis.services.ledger.running.witness import CounterWitness
from tests.services.ledger.members import open_by_member
from tests.services.ledger.world import Served, World

POST = ("POST", "/app/transactions")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A ledger."""
    return World(tmp_path / "ledger")


async def _post(served: Served, contents: str) -> Any:
    return await asyncio.wait_for(served.ask(*POST, json={"contents": contents}), 60)


def test_a_longer_batch_does_not_go_past_a_fork(world: World) -> None:
    """Two nodes, each with a log of its own: one is witnessed and goes on, the other answers nothing."""

    async def test() -> None:
        apart = world.folder.with_name("apart")
        with LedgerLog(world.folder) as log:
            async with world.serving(log) as old:
                await old.write("common")
                shutil.copytree(world.folder, apart)
                with LedgerLog(apart) as other:
                    async with world.serving(other) as new:
                        await new.write("new")
                        answers = await asyncio.gather(*(_post(old, f"{number}") for number in range(40)))
                        assert {one.status_code for one in answers} <= {502, 503}
                        assert old.node.engine.ended is not None
                        await new.write("newer")

    asyncio.run(test())


def test_a_fork_is_not_witnessed_from_the_other_side_either(world: World) -> None:
    """The old node is witnessed first: a new one from the log before that never begins."""

    async def test() -> None:
        apart = world.folder.with_name("apart")
        with LedgerLog(world.folder) as log:
            async with world.serving(log) as old:
                await old.write("common")
                shutil.copytree(world.folder, apart)
                with LedgerLog(apart) as other:
                    node = world.node(other)
                    await old.write("old")
                    with pytest.raises(Exception, match=r"entries .* are missing"):
                        node.begin("127.0.0.1:8000")
                    await old.write("older")

    asyncio.run(test())


def test_a_node_takes_over_from_one_that_reports_at_the_same_time(world: World) -> None:
    """A report of its own history does not end a node: the witness is told again, one step later."""
    world.witness.count = 0
    advance, raced = world.witness.advance, []

    async def test() -> None:
        with LedgerLog(world.folder) as log:
            async with world.serving(log) as old:
                await old.write("one")
            said = world.witness.said

            def late(to: Witnessed) -> Witnessed:
                if not raced:  # the old node's last batch was in the log, and its report comes now
                    raced.append(to)
                    advance(said._replace(step=said.step + 1))
                return advance(to)

            world.witness.advance = late  # type: ignore[method-assign]
            async with world.serving(log) as new:
                await new.write("two")
                assert new.node.engine.ended is None
        assert raced

    asyncio.run(test())


@pytest.mark.parametrize("error", [UnavailableError("no platform"), OSError("gone"), RuntimeError("odd")])
def test_a_witness_that_fails_leaves_nobody_waiting(world: World, error: Exception) -> None:
    """All who wait are told that nobody knows, and later ones that the node has ended."""

    async def test() -> None:
        async with world.serving() as served:
            await served.write("before")

            def fail(to: Witnessed) -> Witnessed:
                raise error

            world.witness.advance = fail  # type: ignore[method-assign]
            answers = await asyncio.gather(*(_post(served, f"{number}") for number in range(5)))
            assert {one.status_code for one in answers} <= {502, 503}
            unknown = [one for one in answers if one.status_code == 502]
            assert unknown
            txid = unknown[0].headers["x-ms-ccf-transaction-id"]
            status = await served.ask("GET", f"/app/transactions/{txid}/status")
            assert status.json().get("state") != "Committed"
            assert served.node.engine.ended is not None
            read = await asyncio.wait_for(served.ask("GET", "/app/transactions/current"), 60)
            assert read.status_code == 503
            assert (await _post(served, "after")).status_code == 503

    asyncio.run(test())


def test_what_a_log_may_have_taken_is_not_said_to_be_rolled_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log took it, its answer was lost, and another node went on: the entry is Committed there."""
    monkeypatch.setattr(engine, "AGAIN_SECONDS", 0.01)

    class Losing:
        """A log that loses an answer, after which another node has the log."""

        def __init__(self, log: LedgerLog) -> None:
            self.log, self.head, self.read = log, log.head, log.read
            self.loses = False

        def append(self, previous: bytes, batch: bytes) -> str:
            answer = self.log.append(previous, batch)
            if not self.loses:
                return answer
            self.loses = False
            world.node(self.log).begin("127.0.0.1:8001")
            return "unknown"

    async def test() -> None:
        with LedgerLog(world.folder) as log:
            losing = Losing(log)
            async with world.serving(losing) as served:
                losing.loses = True
                answer = await _post(served, "perhaps")
                assert (answer.status_code, answer.json()["error"]["code"]) == (
                    502,
                    "TransactionOutcomeUnknown",
                )
                txid = answer.headers["x-ms-ccf-transaction-id"]
            async with world.serving(log) as later:
                status = await later.ask("GET", f"/app/transactions/{txid}/status")
                assert status.json()["state"] == "Committed"

    asyncio.run(test())


def test_a_host_that_begins_twice_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one view, and one writer of the tree: the second call is refused."""
    entered, goes_on, begun = threading.Event(), threading.Event(), list[str]()
    nodes: list[str] = []

    def slowly(node: NodeIdentity, service: bytes, genesis: bytes) -> Quoted:
        nodes.append(node.id)
        entered.set()
        assert goes_on.wait(60)
        return Quoted("ab" * 32, b"")

    monkeypatch.setattr("tests.services.ledger.world.quote", slowly)
    with LedgerLog(world.folder) as log:
        node = world.node(log)

        def begin() -> None:
            try:
                node.begin("127.0.0.1:8000")
                begun.append("begun")
            except UsageError:
                begun.append("refused")

        threads = [threading.Thread(target=begin) for _ in range(2)]
        threads[0].start()
        assert entered.wait(60)
        entered.clear()
        threads[1].start()
        entered.wait(0.2)
        goes_on.set()
        for each in threads:
            each.join(60)
    assert (sorted(begun), len(nodes)) == (["begun", "refused"], 1)


def test_the_platforms_counter_keeps_the_first_report_of_a_step() -> None:
    """A witness reads back what was reported, and gives another node the report that was first."""

    class Counted:
        """A counter, as the platform keeps it."""

        value, mark = 0, b""

        def advance(self, to: int, mark: bytes = b"") -> MarkedReading:
            assert len(mark) <= 32
            if to > self.value:
                self.value, self.mark = to, mark
            return MarkedReading(self.value, "", self.mark)

        def read_marked(self) -> MarkedReading:
            return MarkedReading(self.value, "", self.mark)

    one, two = (CounterWitness("ab", "signer") for _ in range(2))
    one._counter = two._counter = Counted()  # type: ignore[assignment]
    assert one.read() == Witnessed(0, b"", 0)
    first, longer = Witnessed(5, b"a" * 24, 1), Witnessed(900, b"b" * 24, 1)
    assert one.advance(first) == first
    assert two.advance(longer) == two.read() == first


class Stuck:
    """A log whose disk may take nothing."""

    def __init__(self, log: LedgerLog) -> None:
        self._log = log
        self.full = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, previous: bytes, batch: bytes) -> str:
        """As the log's; ``unknown`` while the disk is full."""
        return "unknown" if self.full else self._log.append(previous, batch)


@pytest.mark.parametrize("written", [True, False])
def test_a_rekey_while_the_next_node_starts(world: World, written: bool) -> None:
    """The next node was made before it: the secret counts if the log has the rekey, and is dropped if not."""
    world.open = False

    async def test() -> None:
        with LedgerLog(world.folder) as whole:
            log = Stuck(whole)
            async with world.serving(log) as old:
                member = await open_by_member(old)
                body = json.dumps({"actions": [{"name": "trigger_ledger_rekey"}]}).encode()
                proposal = (await member.send("members/proposals:create", "proposal", body)).json()
                fresh = world.node(log)
                log.full = not written
                voting = asyncio.create_task(member.vote(proposal["proposalId"]))
                if written:
                    assert (await voting).json()["proposalState"] == "Accepted"
                else:
                    await asyncio.sleep(1)
            if not written:
                assert (await voting).status_code == 502
            log.full = False
            fresh.begin("127.0.0.1:8000")
            for _ in range(2):
                async with world.serving(log) as later:
                    await later.write("after it")

    asyncio.run(test())
