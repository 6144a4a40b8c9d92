"""Reports a node's signatures to its witness, one step after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Final

from kluis.errors import UnavailableError
from kluis.ledger.sequencer import Batch
from kluis.services.ledger.running.state import MARK_ROOT, Ledger, Witness, Witnessed

MOST_TOLD: Final = 8
"""How often a report is tried again: each time another node's came first."""


class Reporter:
    """Reports batches that are in the log, before their answers go.

    Args:
        ledger: what the node knows.
        witness: hears of each batch.
        seconds: the least time between two reports; 0: after each batch.
        pace: seconds of a clock that nobody sets.
    """

    def __init__(self, ledger: Ledger, witness: Witness, seconds: float, pace: Callable[[], float]) -> None:
        self._ledger = ledger
        self._witness = witness
        self._seconds = seconds
        self._pace = pace
        self._last = -seconds
        self._step: int | None = None
        self._late: Batch | None = None

    @property
    def due(self) -> float | None:
        """Seconds until the last batch must be reported; None if it was."""
        return None if self._late is None else max(0.0, self._last + self._seconds - self._pace())

    async def tell_late_async(self) -> None:
        """Report the last batch to the witness, unless it has it, even before the next report is due.

        Raises:
            UnavailableError: as :meth:`tell`.
        """
        if self._late is not None:
            self._last = self._pace() - self._seconds
            await self.tell_async(self._late)

    def tell(self, batch: Batch) -> None:
        """Tell the witness, and wait in this thread.

        Raises:
            UnavailableError: it has another node's report, which is not in this ledger.
        """
        reports, heard = self._reports(batch), None
        with contextlib.suppress(StopIteration):
            while True:
                report = reports.send(heard)
                heard = self._witness.read() if report is None else self._witness.advance(report)

    async def tell_async(self, batch: Batch) -> None:
        """As :meth:`tell`, from a coroutine: its event loop goes on until the witness answers."""
        reports, heard = self._reports(batch), None
        with contextlib.suppress(StopIteration):
            while True:
                report = reports.send(heard)
                heard = self._witness.read() if report is None else await self._witness.advance_async(report)

    def _reports(self, batch: Batch) -> Generator[Witnessed | None, Witnessed | None, None]:
        """What to tell the witness; None reads its last report. Receives what the witness has then.

        A report is one step after the last one, and follows only one of this ledger's own signatures. A
        report of another node that is not in this ledger ends this node. Otherwise a longer batch would hide
        it.
        """
        now = self._pace()
        self._late = batch
        if now - self._last < self._seconds:
            return
        heard = (yield None) if self._step is None else None
        for _ in range(MOST_TOLD):
            if heard is not None:
                if not self._ledger.continues(heard):
                    break
                self._step = heard.step
            report = Witnessed(batch.signature.seqno, batch.root[:MARK_ROOT], (self._step or 0) + 1)
            heard = yield report
            if heard == report:
                self._step, self._last, self._late = report.step, now, None
                return
        raise UnavailableError("ledger: the witness has another node", code="ledger_fenced")
