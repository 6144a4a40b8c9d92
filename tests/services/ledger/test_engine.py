"""The engine: order, batches, and a log that does not answer."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from kluis.errors import UnavailableError, UsageError
from kluis.formats.ccf.txid import TxId
from kluis.serve.ledger.log import LedgerLog
from kluis.services.ledger.running import engine
from kluis.services.ledger.running.engine import Result
from kluis.services.ledger.running.state import Witnessed
from kluis.services.ledger.tables import ENTRIES
from kluis.services.web import Refusal
from tests.services.ledger.world import World

STORED = b'{"contents":"first","secretKey":"AAAA","tags":["blue"]}'


class Gated:
    """A log whose appends a test lets through."""

    def __init__(self, log: LedgerLog) -> None:
        self.log = log
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()
        self.answers: list[str] = []
        self.batches: list[bytes] = []

    def head(self) -> bytes:
        """As the log's."""
        return self.log.head()

    def append(self, previous: bytes, batch: bytes) -> str:
        """Once it is open; the answer that was set first."""
        if not self.open.is_set():
            self.waiting.set()
        assert self.open.wait(600)
        self.batches.append(batch)
        if self.answers:
            answer = self.answers.pop(0)
            if answer == "lost":
                self.log.append(previous, batch)
                return "unknown"
            return answer
        return self.log.append(previous, batch)

    def read(self, first: int, most: int) -> bytes:
        """As the log's."""
        return self.log.read(first, most)

    def read_each(self, seqnos: list[int]) -> list[bytes]:
        """As the log's."""
        return self.log.read_each(seqnos)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that waits for its log as long as a slow machine needs."""
    monkeypatch.setattr(engine, "UNKNOWN_SECONDS", 600.0)


def _serve(world: World, test: Any) -> None:
    async def whole() -> None:
        with LedgerLog(world.folder) as log:
            gated = Gated(log)
            async with world.serving(gated) as served:
                await test(served, gated)

    asyncio.run(whole())


def test_no_answer_goes_before_the_disk_has_it(world: World, patient: None) -> None:
    """A read of what is not committed yet waits, too; what came meanwhile is one batch."""

    async def test(served: Any, log: Gated) -> None:
        log.open.clear()
        first = asyncio.create_task(served.write("first"))
        while not log.waiting.is_set():
            await asyncio.sleep(0.01)
        read = asyncio.create_task(served.ask("GET", "/app/transactions/current"))
        others = [asyncio.create_task(served.write(f"{number}")) for number in range(5)]
        while len(served.node.engine._jobs) < len(others):
            await asyncio.sleep(0.01)
        assert not any(one.done() for one in (first, *others, read))
        before = len(log.batches)
        log.open.set()
        ids = await asyncio.gather(first, *others)
        assert len({one.partition(".")[2] for one in ids}) == 6
        assert (await read).json()["contents"] == "first"
        assert len(log.batches) - before == 2

    _serve(world, test)


def test_lists_and_refusals_wait_for_what_they_show(world: World, patient: None) -> None:
    """Neither a list of collections or tags, nor a refusal, tells of an entry that the disk does not have."""

    class Refused(Exception):
        pass

    def refuse(transaction: Any) -> Any:
        assert transaction.get(ENTRIES, b"new") == STORED
        raise Refused

    def write(transaction: Any) -> Result:
        transaction.put(ENTRIES, b"new", STORED)
        return Result(None)

    async def test(served: Any, log: Gated) -> None:
        log.open.clear()
        work = [asyncio.create_task(served.node.engine.write(each)) for each in (write, refuse)]
        while not log.waiting.is_set():
            await asyncio.sleep(0.01)
        paths = ("/app/collections", "/app/collections/tags?collectionId=new")
        asked = [asyncio.create_task(served.ask("GET", path)) for path in paths]
        await asyncio.sleep(0.3)
        done = [one.done() for one in (*work, *asked)]
        log.open.set()
        assert done == [False] * 4
        assert "new" in (await asked[0]).text
        assert "blue" in (await asked[1]).text
        await work[0]
        with pytest.raises(Refused):
            await work[1]

    _serve(world, test)


def test_a_refusal_that_nobody_can_settle_says_that_nothing_was_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it refused for may never come to be; the service states that it is not ready, too."""
    monkeypatch.setattr(engine, "UNKNOWN_SECONDS", 0.2)
    monkeypatch.setattr(engine, "AGAIN_SECONDS", 0.01)

    def refuse(transaction: Any) -> Any:
        raise ValueError

    async def test(served: Any, log: Gated) -> None:
        assert (await served.ask("GET", "/health/ready", None, version=False)).status_code == 200
        log.answers = ["unknown"] * 1_000_000
        wrote = asyncio.create_task(served.write("perhaps"))
        refused = asyncio.create_task(served.node.engine.write(refuse))
        with pytest.raises(Refusal, match="nothing was written"):
            await refused
        ready = await served.ask("GET", "/health/ready", None, version=False)
        assert (ready.status_code, "takes no entries at present" in ready.text) == (503, True)
        log.answers.clear()
        with pytest.raises(AssertionError, match="TransactionOutcomeUnknown"):
            await wrote
        while served.node.engine.is_stuck:
            await asyncio.sleep(0.01)
        assert (await served.ask("GET", "/health/ready", None, version=False)).status_code == 200

    _serve(world, test)


def test_a_refused_write_leaves_nothing_to_the_collector(world: World, patient: None) -> None:
    """Its error is freed with its answer: else memory would grow between the collector's rounds."""

    class Refused(Exception):
        pass

    def refuse(transaction: object) -> Any:
        raise Refused

    async def test(served: Any, log: Gated) -> None:
        gc.disable()
        try:
            try:
                await served.node.engine.write(refuse)
            except Refused as error:
                left = weakref.ref(error)
            await asyncio.sleep(0.01)
            assert left() is None
        finally:
            gc.enable()

    _serve(world, test)


def test_a_full_disk_acknowledges_nothing_and_is_ready_again_after(
    world: World, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes are appended again; meanwhile nothing more is taken, and it is said so."""
    monkeypatch.setattr(engine, "AGAIN_SECONDS", 0.01)

    async def test(served: Any, log: Gated) -> None:
        log.open.clear()
        log.answers = ["unknown"] * 5
        writing = asyncio.create_task(served.write("kept"))
        log.open.set()
        while log.answers:
            await asyncio.sleep(0.005)
        txid = await writing
        assert len(set(log.batches[-6:])) == 1
        status = (await served.ask("GET", f"/app/transactions/{txid}/status")).json()
        assert status["state"] == "Committed"
        assert (await served.write("after")) != txid

    _serve(world, test)


@pytest.mark.parametrize("answers", [["unknown", "unknown"], ["lost"], []])
def test_a_node_whose_first_entry_the_disk_did_not_take_begins_once_it_does(
    world: World, answers: list[str]
) -> None:
    """The same node, with the same bytes: also if the log had them, or if the witness did not answer."""
    advance, failing = world.witness.advance, ["no platform"] if not answers else []

    def fail(to: Witnessed) -> Witnessed:
        if failing:
            raise UnavailableError(failing.pop())
        return advance(to)

    world.witness.advance = fail  # type: ignore[method-assign]
    with LedgerLog(world.folder) as log:
        gated = Gated(log)
        gated.answers = list(answers)
        node = world.node(gated)
        problem = "does not take the first entries of view 2: unknown" if answers else "no platform"
        for _ in answers or [""]:
            with pytest.raises(UnavailableError, match=problem):
                node.begin("127.0.0.1:8000")
        node.begin("127.0.0.1:8000")
        assert (len(gated.batches), len(set(gated.batches))) == (len(answers or [""]) + 1, 1)
        assert (node.ledger.committed, log.head()) == (TxId(2, 2), node.ledger.head)
        assert world.witness.said.seqno == 2
        with pytest.raises(UsageError, match="has begun already"):
            node.begin("127.0.0.1:8000")


def test_what_nobody_knows_is_said_to_be_unknown_and_settles(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients of Azure write again by themselves after 503, and not after 502."""
    monkeypatch.setattr(engine, "UNKNOWN_SECONDS", 0.2)
    monkeypatch.setattr(engine, "AGAIN_SECONDS", 0.01)

    async def test(served: Any, log: Gated) -> None:
        log.answers = ["unknown"] * 1_000_000
        answer = await served.ask("POST", "/app/transactions", json={"contents": "perhaps"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "TransactionOutcomeUnknown")
        txid = answer.headers["x-ms-ccf-transaction-id"]
        pending = (await served.ask("GET", f"/app/transactions/{txid}/status")).json()
        assert pending["state"] == "Pending"
        for path in (f"/app/transactions/{txid}/receipt", f"/app/receipt?transaction_id={txid}"):
            early = await served.ask("GET", path)
            assert (early.status_code, early.json()["error"]["code"]) == (404, "TransactionPendingOrUnknown")
            assert "ce:" not in early.text
        refused = await served.ask("POST", "/app/transactions", json={"contents": "not now"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        log.answers.clear()
        while (await served.ask("GET", f"/app/transactions/{txid}/status")).json()["state"] != "Committed":
            await asyncio.sleep(0.01)
        listed = (await served.ask("GET", "/app/transactions")).json()["entries"]
        assert [one["contents"] for one in listed] == ["perhaps"]

    _serve(world, test)


def test_what_waits_behind_a_log_that_does_not_answer_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it was written, and nobody knows for how long it would wait."""
    monkeypatch.setattr(engine, "UNKNOWN_SECONDS", 0.2)

    async def test(served: Any, log: Gated) -> None:
        log.open.clear()
        body = {"contents": "perhaps"}
        first = asyncio.create_task(served.ask("POST", "/app/transactions", json=body))
        while not log.waiting.is_set():
            await asyncio.sleep(0.01)
        second = asyncio.create_task(served.ask("POST", "/app/transactions", json={"contents": "behind"}))
        assert (await first).status_code == 502
        assert (await asyncio.wait_for(second, 600)).status_code == 503
        assert (await served.ask("POST", "/app/transactions", json={"contents": "later"})).status_code == 503
        monkeypatch.setattr(engine, "UNKNOWN_SECONDS", 600.0)
        log.open.set()
        txid = (await first).headers["x-ms-ccf-transaction-id"]
        while (await served.ask("GET", f"/app/transactions/{txid}/status")).json()["state"] != "Committed":
            await asyncio.sleep(0.01)
        await served.write("after")
        listed = (await served.ask("GET", "/app/transactions")).json()["entries"]
        assert [one["contents"] for one in listed] == ["perhaps", "after"]

    _serve(world, test)


def test_a_transaction_that_no_host_can_take_is_refused(world: World) -> None:
    """It would be appended again and again, and nothing after it."""

    async def test(served: Any, log: Gated) -> None:
        def work(state: Any) -> Result:
            state.put("app.x", b"k", bytes(engine.MOST_ENTRY_BYTES))
            return Result(None)

        with pytest.raises(Refusal, match="nothing was written") as caught:
            await served.node.engine.write(work)
        assert (caught.value.status, caught.value.code) == (413, "EntryTooLarge")
        assert not served.node.ledger.store.begin().has("app.x", b"k")
        await served.write("after")

    _serve(world, test)


def test_an_append_whose_answer_was_lost_is_acknowledged_once(
    world: World, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host had it: it acknowledges the second call, and there is one entry."""
    monkeypatch.setattr(engine, "AGAIN_SECONDS", 0.01)

    async def test(served: Any, log: Gated) -> None:
        log.answers = ["lost"]
        await served.write("once")
        listed = (await served.ask("GET", "/app/transactions")).json()["entries"]
        assert [one["contents"] for one in listed] == ["once"]

    _serve(world, test)


def test_a_client_that_drops_its_request_and_repeats_it_has_one_entry(world: World, patient: None) -> None:
    """Whether the first request waits for its turn or for the disk: one entry, one id."""

    async def test(served: Any, log: Gated) -> None:
        def post() -> asyncio.Task[Any]:
            headers = {"x-ms-client-request-id": "one"}
            body = {"contents": "once"}
            return asyncio.create_task(served.ask("POST", "/app/transactions", json=body, headers=headers))

        log.open.clear()
        dropped = [post()]
        while not log.waiting.is_set():  # it is executed, and waits for the disk
            await asyncio.sleep(0.01)
        dropped.append(post())
        while not served.node.engine._jobs:  # it waits for its turn
            await asyncio.sleep(0.01)
        for each in dropped:
            each.cancel()
        await asyncio.gather(*dropped, return_exceptions=True)
        repeated = [post(), post()]
        while len(served.node.engine._jobs) < 3:
            await asyncio.sleep(0.01)
        log.open.set()
        ids = {answer.headers["x-ms-ccf-transaction-id"] for answer in await asyncio.gather(*repeated)}
        listed = (await served.ask("GET", "/app/transactions")).json()["entries"]
        assert [one["contents"] for one in listed] == ["once"]
        assert ids == {listed[0]["transactionId"]}

    _serve(world, test)


def test_too_much_at_once_is_refused_and_not_written(
    world: World, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a status after which a client may write it again."""
    monkeypatch.setattr(engine, "MOST_WAITING", 3)

    async def test(served: Any, log: Gated) -> None:
        log.open.clear()
        tasks = [
            asyncio.create_task(served.ask("POST", "/app/transactions", json={"contents": f"{number}"}))
            for number in range(12)
        ]
        while not any(each.done() for each in tasks):
            await asyncio.sleep(0.01)
        log.open.set()
        answers = await asyncio.gather(*tasks)
        refused = [one for one in answers if one.status_code == 503]
        assert refused
        assert {one.json()["error"]["code"] for one in refused} == {"TooManyPendingTransactions"}
        listed = (await served.ask("GET", "/app/transactions")).json()["entries"]
        assert len(listed) == len(answers) - len(refused)

    _serve(world, test)


def test_work_that_raises_writes_nothing(world: World) -> None:
    """Its caller gets what it raised, and the next one is served."""

    async def test(served: Any, log: Gated) -> None:
        def work(state: Any) -> Result:
            state.put("app.x", b"k", b"v")
            raise Refusal(400, "No", "no")

        before = served.node.ledger.committed
        for alone in (False, True):
            with pytest.raises(Refusal, match="no"):
                await served.node.engine.write(work, alone=alone)
        assert served.node.ledger.committed == before
        assert not served.node.ledger.store.begin().has("app.x", b"k")

    _serve(world, test)


@pytest.mark.parametrize(("seconds", "words"), [(0.0, 6), (10.0, 2)])
def test_the_witness_hears_of_each_batch_or_as_often_as_was_chosen(
    world: World, seconds: float, words: int
) -> None:
    """Before the answers; by choice at most once in so many seconds."""
    world.settings = {"witness_seconds": seconds}

    async def test(served: Any, log: Gated) -> None:
        before = world.witness.count
        for number in range(5):
            await served.write(str(number))
            if not seconds:
                assert world.witness.said.seqno == served.node.ledger.committed.seqno
        world.clock.pass_(11)
        await served.write("later")
        assert world.witness.count - before == words - (1 if seconds else 0)

    _serve(world, test)


@pytest.mark.parametrize("seconds", [0.05, 60.0])
def test_the_witness_hears_of_the_last_answers_too(world: World, seconds: float) -> None:
    """Once that time has passed, although nobody writes; and as the node ends, although it has not."""
    world.settings = {"witness_seconds": seconds}
    committed = []

    async def test(served: Any, log: Gated) -> None:
        for number in range(3):
            await served.write(str(number))
        committed.append(served.node.ledger.committed.seqno)
        while seconds < 1 and world.witness.said.seqno != committed[0]:
            await asyncio.sleep(0.01)
        assert (world.witness.said.seqno == committed[0]) is (seconds < 1)

    _serve(world, test)
    assert world.witness.said.seqno == committed[0]
