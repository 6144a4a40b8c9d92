"""The witness of a ledger: a counter of the platform, which remembers the last signature reported to it."""

from __future__ import annotations

from typing import Final

from kluis.enclave.counters import Counter, MarkedReading
from kluis.enclave.sealing import Policy
from kluis.services.ledger.running.state import MARK_ROOT, Witnessed

_SEQNO: Final = 8


class CounterWitness:
    """A counter whose value is a step, and whose mark is a seqno and the start of the root signed there.

    The counter keeps the first mark of a step. So of two nodes that a host separates, one has each step, and
    the other hears of it, however many entries its next batch has.

    Args:
        service: the id of the service's key: another service is another ledger.
        policy: what the service's key is sealed to: all that can open it share the counter.
    """

    def __init__(self, service: str, policy: Policy) -> None:
        self._counter = Counter(f"ledger {service}", policy=policy)

    def read(self) -> Witnessed:
        """The last report; seqno 0 if there is none."""
        return _of(self._counter.read_marked())

    def advance(self, to: Witnessed) -> Witnessed:
        """Tell it of a signature, durably; gives what it remembers then: a step that is there stays."""
        return _of(self._counter.advance(to.step, _mark(to)))

    async def advance_async(self, to: Witnessed) -> Witnessed:
        """As :meth:`advance`, from a coroutine: its event loop goes on until the platform answers."""
        return _of(await self._counter.advance_async(to.step, _mark(to)))


def _mark(witnessed: Witnessed) -> bytes:
    return witnessed.seqno.to_bytes(_SEQNO, "big") + witnessed.root[:MARK_ROOT]


def _of(reading: MarkedReading) -> Witnessed:
    return Witnessed(int.from_bytes(reading.mark[:_SEQNO], "big"), reading.mark[_SEQNO:], reading.value)
