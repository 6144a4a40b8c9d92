"""Monotonic counters, with a label for what would detect a rollback of the platform's store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from kluis.enclave.attester import nothing
from kluis.enclave.inside import inside
from kluis.errors import UsageError
from kluis.formats.kluis import channel
from kluis.hashes import sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    from kluis.enclave.sealing import Policy


class Reading(NamedTuple):
    """A counter's value and its witness (``unwitnessed`` if there is none)."""

    value: int
    witness: str


class MarkedReading(NamedTuple):
    """A counter's value, witness and mark; the mark is empty if there is none."""

    value: int
    witness: str
    mark: bytes


class Counter:
    """A counter that only increases, of this exact image or of its signer and product.

    The platform detects a rollback while it runs, and across its restarts only with a witness. Any user of
    the machine who starts the image can raise a counter of it whose name is known, so that what was sealed
    with its value seems older. To prevent that, name the counter by a random value that is sealed, too.

    Args:
        name: 1 to 256 characters; identifies the counter.
        policy: of its owner, as for :func:`seal`: ``measurement``, this exact image, or ``signer``, any image
            of its signer and product. Use the policy that the data is sealed with. A host can sign an image
            again with its own key: data sealed to the measurement opens then, and a counter of the signer
            starts at 0.

    Raises:
        UsageError: the name is out of bounds, or the policy is unknown.
    """

    def __init__(self, name: str, *, policy: Policy) -> None:
        if not 1 <= len(name) <= 256:
            raise UsageError(f"counter name: want 1 to 256 characters, got {len(name)}")
        if policy not in POLICIES:
            raise UsageError(f"counter policy: want measurement or signer, got {policy}")
        self.name = name
        self._policy = policy
        self._id = sha256(b"kluis counter\x00" + name.encode())

    def read(self) -> Reading:
        """Read it; a counter that was never incremented is 0."""
        return Reading(*self._ask("read")[:2])

    def read_marked(self) -> MarkedReading:
        """Read it, with the mark that :meth:`advance` stored."""
        return self._ask("read")

    def increment(self) -> Reading:
        """Add one, durably, and return the new value."""
        return Reading(*self._ask("increment")[:2])

    def advance(self, to: int, mark: bytes = b"", meanwhile: Callable[[], None] = nothing) -> MarkedReading:
        """Set it to ``to``, durably, if that is higher than its value.

        Args:
            to: 1..2^53-1.
            mark: to store with it, at most 32 bytes. If two calls reach one value, the first one's mark is
                kept.
            meanwhile: runs while the platform makes it durable, in this thread; must not raise.

        Returns:
            Its new state: ``to`` and ``mark``, or the existing state, which is as high or higher.

        Raises:
            UsageError: an argument is out of bounds.
        """
        return self._ask("advance", to, mark, meanwhile)

    async def advance_async(self, to: int, mark: bytes = b"") -> MarkedReading:
        """As :meth:`advance`, from a coroutine: its event loop goes on until it is durable."""
        answer = await inside("counter").attester.request_async(
            self._request("advance", to, mark), channel.Count
        )
        return MarkedReading(answer.value, answer.witness, answer.mark)

    def _ask(
        self, op: str, to: int = 0, mark: bytes = b"", meanwhile: Callable[[], None] = nothing
    ) -> MarkedReading:
        answer = inside("counter").attester.request(self._request(op, to, mark), channel.Count, meanwhile)
        return MarkedReading(answer.value, answer.witness, answer.mark)

    def _request(self, op: str, to: int, mark: bytes) -> channel.Counter:
        return channel.Counter(self._id, op, to, mark, self._policy)


def counter(name: str, *, policy: Policy) -> Counter:
    """The counter called ``name``, of this exact image or of its signer and product."""
    return Counter(name, policy=policy)


POLICIES: Final = ("measurement", "signer")
