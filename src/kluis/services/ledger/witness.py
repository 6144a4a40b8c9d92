"""The witness of a ledger: a counter of the platform, which remembers the last signature reported to it."""

from __future__ import annotations

from kluis.enclave.counters import Counter
from kluis.enclave.sealing import Policy
from kluis.services.ledger.state import Witnessed


class CounterWitness:
    """A counter whose value is a seqno, and whose mark is the root that was signed there.

    Args:
        service: the id of the service's key: another service is another ledger.
        policy: what the service's key is sealed to: all that can open it share the counter.
    """

    def __init__(self, service: str, policy: Policy) -> None:
        self._counter = Counter(f"ledger {service}", policy=policy)

    def read(self) -> Witnessed:
        """The last report; seqno 0 if there is none."""
        reading = self._counter.read_marked()
        return Witnessed(reading.value, reading.mark)

    def advance(self, to: Witnessed) -> Witnessed:
        """Tell it of a signature, durably; gives what it remembers then."""
        reading = self._counter.advance(to.seqno, to.root)
        return Witnessed(reading.value, reading.mark)
