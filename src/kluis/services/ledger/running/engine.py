"""The node's engine: requests become entries, entries become signed batches, and answers wait for the log.

One task runs all that writes, in the order in which it came. It executes what waits, seals it with a
signature, has the host append it, tells the witness, and only then lets the answers go. No other thread takes
part: to wake one takes longer than to sign. While the task waits for the host or the witness, the loop goes
on. What came meanwhile is the next batch. What work reads or writes is on the disk before its answer goes,
also if it refuses. No batch that failed is encrypted twice: the same bytes are appended until the host takes
them, or another node has the log.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

from kluis.errors import InternalError, KluisError, UnavailableError, UsageError
from kluis.formats.ccf.domain import NO_CLAIMS, Writes
from kluis.formats.ccf.txid import TxId
from kluis.ledger.sequencer import Batch, Sequencer
from kluis.ledger.store import Transaction
from kluis.services.ledger.running import refusals
from kluis.services.ledger.running.log import HostLog
from kluis.services.ledger.running.reporter import Reporter
from kluis.services.ledger.running.state import Ledger, Witness
from kluis.services.web import Refusal

MOST_WAITING: Final = 10_000
MOST_BATCH_ENTRIES: Final = 1000
MOST_BATCH_BYTES: Final = 512 << 10
MOST_ENTRY_BYTES: Final = 8 << 20
"""Of an entry's keys and values. A batch that no host can take would be tried again without end."""
AGAIN_SECONDS: Final = 0.25
UNKNOWN_SECONDS: Final = 5.0
"""How long an answer waits for a log that does not accept its batch, before it reports an unknown outcome."""


class Result(NamedTuple):
    """What work comes to.

    Attributes:
        value: for its caller.
        claims_digest: 32 bytes, of what its entry claims; zeros for nothing.
        after: called with the entry's id, in the order of entries, before the next work runs.
    """

    value: Any
    claims_digest: bytes = NO_CLAIMS
    after: Callable[[TxId], None] | None = None


class Written(NamedTuple):
    """What was written, or read.

    Attributes:
        value: of the work.
        txid: of its entry; of the state that it read, where it wrote nothing.
    """

    value: Any
    txid: TxId


Work = Callable[[Transaction], Result]


@dataclasses.dataclass(slots=True, eq=False)
class _Job:
    work: Work
    done: asyncio.Future[Written]
    alone: bool
    written: Written | None = None
    refusal: Exception | None = None

    @property
    def txid(self) -> TxId | None:
        return None if self.written is None else self.written.txid


class Engine:
    """Runs one node's ledger, in one event loop.

    Attributes:
        ledger: what the node knows.
        ended: why it runs no more, if by itself.
        is_stuck: whether the log takes nothing at present.

    Args:
        ledger: replayed.
        log: the host's.
        witness: hears of each batch before its answers go.
        witness_seconds: the least time between two words to the witness; 0: after each batch.
        pace: seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        ledger: Ledger,
        log: HostLog,
        witness: Witness,
        *,
        witness_seconds: float = 0.0,
        pace: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = ledger
        self.ended: KluisError | None = None
        self._log = log
        self._reporter = Reporter(ledger, witness, witness_seconds, pace)
        self._pace = pace
        self._sequencer: Sequencer | None = None
        self._opening: Batch | None = None  # of a view that no log has yet
        self._jobs: deque[_Job] = deque()
        self._wake = asyncio.Event()
        self._committing: asyncio.Event = asyncio.Event()
        self.is_stuck = False
        self._stopping = False
        self._scripts = ThreadPoolExecutor(1, thread_name_prefix="kluis-script")

    @property
    def sequencer(self) -> Sequencer:
        """Of this node's view.

        Raises:
            UnavailableError: the node has no view yet.
        """
        if self._sequencer is None:
            raise UnavailableError("ledger: this node has no view yet", code="ledger_starting")
        return self._sequencer

    def prepare(self, sequencer: Sequencer, first: list[tuple[Writes, bool]]) -> None:
        """Seal the first entries of a view, with a signature; :meth:`begin` appends them.

        Args:
            sequencer: of a view that no other process has.
            first: writes of each entry, and whether a chunk begins with it; may be empty.
        """
        self._sequencer = sequencer
        for writes, new_chunk in first:
            txid = sequencer.add(writes, new_chunk=new_chunk)
            self.ledger.apply(txid, writes)
        self._opening = sequencer.seal()

    def begin(self) -> None:
        """Open the view that is prepared: append its first entries before anything else.

        It may be called again after an error: the same bytes are appended.

        Raises:
            UsageError: no view is prepared.
            UnavailableError: the host does not take them, or another node has the log.
        """
        batch = self._opening
        if batch is None:
            raise UsageError("ledger: want a view that is prepared, got none", hint="prepare(...)")
        answer = self._log.append(self.ledger.head, batch.entries)
        if answer != "ok":
            raise UnavailableError(
                f"ledger: the log does not take the first entries of view {self.sequencer.view}: {answer}",
                hint="see the disk of the ledger's folder, and that nothing else serves it",
                code="ledger_log",
            )
        self._reporter.tell(batch)
        self.ledger.commit(batch)
        self._opening = None

    async def write(self, work: Work, *, alone: bool = False) -> Written:
        """Run work in its turn, and answer once what it wrote is committed.

        ``work`` reads and writes a transaction; if it raises, nothing is written. With ``alone`` it runs in
        the thread for scripts, while the loop goes on, once every entry before it is signed; it is the last
        of its batch.

        Raises:
            Refusal: 503, nothing was written: too much waits, or the log takes nothing at present; or 502,
                nobody knows whether it was.
        """
        if self.ended is not None or self._stopping:
            raise refusals.busy("this node has ended")
        if len(self._jobs) >= MOST_WAITING:
            raise Refusal(
                503,
                "TooManyPendingTransactions",
                f"ledger: {MOST_WAITING} transactions wait already; nothing was written",
                headers={"Retry-After": "1"},
            )
        if self.is_stuck:
            raise refusals.busy("the log takes nothing at present; nothing was written")
        job = _Job(work, asyncio.get_running_loop().create_future(), alone)
        self._jobs.append(job)
        self._wake.set()
        try:
            return await job.done
        finally:
            del job  # an error has this frame, and the job has the error: only the collector would free them

    async def read(self, work: Callable[[Transaction], Any]) -> Written:
        """Read the present state, and answer once all of it is committed."""
        transaction = self.ledger.store.begin()
        value = work(transaction)
        version = transaction.read_version
        await self.wait_for(version)
        return Written(value, TxId(self.ledger.views.of(version), version))

    async def wait_for(self, seqno: int) -> None:
        """Return once an entry that is in the store is committed.

        Raises:
            Refusal: 503, the log takes nothing at present, or the node has ended.
        """
        waits_until = self._pace() + UNKNOWN_SECONDS
        while self.ledger.committed.seqno < seqno:
            if self.ended is not None:
                raise refusals.busy("this node has ended")
            committing = self._committing
            try:
                async with asyncio.timeout(max(0.01, waits_until - self._pace())):
                    await committing.wait()
            except TimeoutError:
                if self.is_stuck:
                    raise refusals.busy("the log takes nothing at present") from None
                waits_until = self._pace() + UNKNOWN_SECONDS

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Ask the host something, while the loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)

    async def run(self) -> None:
        """Run until :meth:`stop`; then what waits is done first.

        Raises:
            KluisError: the node can go on no more.
        """
        try:
            while not (self._stopping and not self._jobs):
                await self._await_jobs()
                while self._jobs:
                    await self._batch()
            await self._reporter.tell_late_async()
        except KluisError as error:
            self.ended = error
            raise
        except Exception as error:
            self.ended = InternalError("ledger: the engine failed")
            raise self.ended from error
        finally:
            self._committing.set()
            for job in self._jobs:
                _fail(job, refusals.busy("this node has ended"))
            self._jobs.clear()
            self._scripts.shutdown(wait=False)

    async def _await_jobs(self) -> None:
        """Wait for work, or for the end; and meanwhile report what the witness has not heard in time."""
        try:
            await asyncio.wait_for(self._wake.wait(), self._reporter.due)
        except TimeoutError:
            await self._reporter.tell_late_async()
        else:
            self._wake.clear()

    def stop(self) -> None:
        """Take no more work, and end once what waits is done."""
        self._stopping = True
        self._wake.set()

    async def _batch(self) -> None:
        """Execute what waits, and commit it."""
        wrote: list[_Job] = []
        try:
            await self._execute_and_commit(self.sequencer, wrote)
        finally:
            while wrote:  # whatever happened, nobody waits for it any longer
                if not wrote[-1].done.done():
                    _fail(wrote[-1], _unsettled(wrote[-1]))
                wrote.pop()  # an error has the frames that called its work, and must not have its job by them

    async def _execute_and_commit(self, sequencer: Sequencer, wrote: list[_Job]) -> None:
        while self._jobs and len(wrote) < MOST_BATCH_ENTRIES and sequencer.pending[1] < MOST_BATCH_BYTES:
            if self._jobs[0].alone and sequencer.pending[0]:
                break
            wrote.append(self._jobs.popleft())
            if wrote[-1].done.cancelled():
                wrote.pop()
                continue
            await self._execute(wrote[-1])
            if wrote[-1].alone:
                break
        if sequencer.pending[0]:
            await self._commit(sequencer, wrote)

    async def _execute(self, job: _Job) -> None:
        transaction = self.ledger.store.begin()
        try:
            if job.alone:
                loop = asyncio.get_running_loop()
                result = await loop.run_in_executor(self._scripts, job.work, transaction)
            else:
                result = job.work(transaction)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is its caller's
            job.refusal = error
            if transaction.read_version <= self.ledger.committed.seqno:
                _fail(job, error)  # else what it refuses for is in this batch
            del job
            return
        writes = {name: dict(changes) for name, changes in transaction.writes.items() if changes}
        if not writes:
            version = transaction.read_version
            value = Written(result.value, TxId(self.ledger.views.of(version), version))
            if version <= self.ledger.committed.seqno:
                _finish(job, value)
            else:  # what it read is in this batch
                job.written = value
            return
        if (size := _size(writes)) > MOST_ENTRY_BYTES:
            _fail(job, refusals.too_large(size, MOST_ENTRY_BYTES))
            return
        txid = self.sequencer.add(writes, result.claims_digest)
        self.ledger.apply(txid, writes)
        job.written = Written(result.value, txid)
        if result.after is not None:
            result.after(txid)

    async def _commit(self, sequencer: Sequencer, wrote: list[_Job]) -> None:
        previous, batch = self.ledger.head, sequencer.seal()
        loop = asyncio.get_running_loop()
        patience = loop.call_later(UNKNOWN_SECONDS, self._give_up, wrote)
        loop.call_soon(self.ledger.prepare, batch)  # while the host writes
        try:
            answer = await self._append(previous, batch)
        finally:
            patience.cancel()
        if answer != "ok":
            for job in wrote:
                _fail(job, refusals.rolled_back(job.txid) if answer == "fenced" else _unsettled(job))
            raise UnavailableError("ledger: another node has the log", code="ledger_fenced")
        self.is_stuck = False
        self.ledger.commit(batch)
        before, self._committing = self._committing, asyncio.Event()
        before.set()
        for job in wrote:
            if job.refusal is not None:
                _fail(job, job.refusal)
            elif job.written is not None:
                _finish(job, job.written)

    def _give_up(self, wrote: list[_Job]) -> None:
        """Let the answers go, and say that nobody knows; the batch is tried again."""
        self.is_stuck = True
        for job in wrote:
            _fail(job, _unsettled(job))
        for job in self._jobs:
            _fail(job, refusals.busy("the log takes nothing at present; nothing was written"))
        self._jobs.clear()

    async def _append(self, previous: bytes, batch: Batch) -> str:
        """Append until the host takes it, and tell the witness.

        Gives ``fenced`` only if the host refused it at once: after another answer it may be in the log that
        another node has now.
        """
        fenced = "fenced"
        while True:
            try:
                answer = await self._log.append_async(previous, batch.entries)
            except KluisError:
                answer = "unknown"
            if answer == "ok":
                await self._reporter.tell_async(batch)
                return "ok"
            if answer == "fenced":
                return fenced
            fenced = "unknown"
            self.is_stuck = True
            if self._stopping:
                raise UnavailableError("ledger: the log takes nothing", code="ledger_log")
            await asyncio.sleep(AGAIN_SECONDS)


def _size(writes: Writes) -> int:
    return sum(len(key) + len(value or b"") for changes in writes.values() for key, value in changes.items())


def _unsettled(job: _Job) -> Refusal:
    if job.refusal is not None:
        return refusals.busy("the log does not answer; nothing was written")
    return refusals.unknown(job.txid)


def _finish(job: _Job, written: Written) -> None:
    if not job.done.done():
        job.done.set_result(written)


def _fail(job: _Job, error: BaseException) -> None:
    if not job.done.done():
        job.done.set_exception(error)
