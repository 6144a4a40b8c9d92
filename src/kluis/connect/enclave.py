"""The enclave at the other end: verified connections, and the verdict that they have in common.

A connection is judged when it opens, and carries requests until its judgement expires. Before that, another
connection is opened and judged, so that requests need not wait. A refusal applies at once to every connection
that carries no request: whatever is at the address now, it is not the required enclave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NamedTuple

from kluis.appraisal import AttestationResult
from kluis.connect.limits import Limits
from kluis.connect.opening import Opened, Opener
from kluis.connect.upstream import Upstream
from kluis.enclave.attested_tls.judge import elapsed
from kluis.errors import KluisError, UnavailableError

OPENING_AT_ONCE: Final = 8
LEAST_RENEWAL_SECONDS: Final = 1.0


class Verdict(NamedTuple):
    """The last judgement of the enclave.

    Attributes:
        result: of it.
        judged: when it began, by :func:`kluis.enclave.attested_tls.judge.elapsed`: its evidence is not older.
        until: when it expires, likewise.
    """

    result: AttestationResult
    judged: float
    until: float

    @property
    def age_seconds(self) -> float:
        """Seconds since the evidence was requested: it is at most that old."""
        return elapsed() - self.judged


class Enclave:
    """Verified connections to one address.

    Args:
        opener: opens and verifies them.
        believed_seconds: how long a judgement permits new requests.
        limits: for waiting.
        report: receives what changed since the first verdict, for the log: a sentence.
    """

    def __init__(
        self, opener: Opener, believed_seconds: float, limits: Limits, report: Callable[[str], None]
    ) -> None:
        self._opener = opener
        self.believed_seconds = believed_seconds
        self._limits = limits
        self._report = report
        self._idle: list[Upstream] = []
        self._threads = ThreadPoolExecutor(OPENING_AT_ONCE, thread_name_prefix="kluis-connect")
        self._fault: KluisError | None = None
        self._failed = 0.0
        self.verdict: Verdict | None = None

    def idle(self) -> Upstream | None:
        """A verified connection that carries no request; None if there is none."""
        while self._idle:
            upstream = self._idle.pop()
            if upstream.usable:
                return upstream
            upstream.close()
        return None

    async def connect(self) -> Upstream:
        """Open and verify a connection.

        Raises:
            KluisError: it is not the required enclave, or nobody answers; states since when.
        """
        loop = asyncio.get_running_loop()
        if self._fault is not None and loop.time() - self._failed < self._limits.retry_seconds:
            raise self._explain(self._fault)
        try:
            opened = await self._open_in_thread()
        except KluisError as fault:
            self._refuse(fault)
            raise self._explain(fault) from None
        # Evidence ages from its request on: a slow answer does not extend its time.
        verdict = Verdict(opened.result, opened.began, opened.began + self.believed_seconds)
        upstream = Upstream(opened.link, opened.result, verdict.until)
        try:
            await loop.create_connection(lambda: upstream, sock=opened.end)
        except OSError as error:
            opened.end.close()
            raise UnavailableError(
                f"enclave: {error.strerror or error}", code="connect_unreachable"
            ) from None
        except BaseException:
            opened.end.close()
            raise
        upstream.since = loop.time()
        self.verdict = verdict
        if self._fault is not None:
            self._fault = None
            self._report("the enclave meets the policy again")
        return upstream

    async def _open_in_thread(self) -> Opened:
        """Open a connection in a thread; if this is cancelled meanwhile, the connection is closed."""
        opening = self._threads.submit(self._open)
        try:
            return await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise

    def give_back(self, upstream: Upstream) -> None:
        """Keep a connection for the next request."""
        upstream.give_back()
        if upstream.usable and not self._refuses() and len(self._idle) < self._limits.kept_connections:
            self._idle.append(upstream)
        else:
            upstream.close()

    async def keep_verified(self) -> None:
        """Verify again before the verdict expires, until cancelled."""
        while True:
            await asyncio.sleep(self._until_renewal())
            try:
                self.give_back(await self.connect())
            except KluisError:  # it is reported, and the next request gets it as its answer
                await asyncio.sleep(self._limits.retry_seconds)

    def look(self, now: float) -> None:
        """Close connections that no request has used for a while.

        Args:
            now: by the loop's clock.
        """
        oldest = now - self._limits.kept_seconds
        for each in [one for one in self._idle if one.since < oldest or not one.usable]:
            self._idle.remove(each)
            each.close()

    @property
    def refused(self) -> bool:
        """Whether the last verification found that it is not the required enclave, or its verdict expired."""
        return self._refuses() or self.verdict is None or elapsed() >= self.verdict.until

    def close(self) -> None:
        """Close every connection that no request uses, and stop what is being opened."""
        self._opener.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._close_idle()

    def _open(self) -> Opened:
        """Open and verify a connection, in a thread; refuse one whose evidence has expired meanwhile."""
        opened = self._opener.open()
        taken = elapsed() - opened.began
        if taken >= self.believed_seconds:
            opened.end.close()
            raise UnavailableError(
                f"enclave: its verification took {taken:.1f} seconds, and evidence is valid for"
                f" {self.believed_seconds:g}",
                hint="raise max_evidence_age in the policy, or use an enclave that answers sooner",
                code="connect_unreachable",
            )
        return opened

    def _close_idle(self) -> None:
        idle, self._idle = self._idle, []
        for each in idle:
            each.close()

    def _until_renewal(self) -> float:
        """Seconds until half of the verdict's time is over."""
        if self.verdict is None:
            return self._limits.retry_seconds
        left = self.verdict.until - self.believed_seconds / 2 - elapsed()
        return max(left, LEAST_RENEWAL_SECONDS)

    def _refuses(self) -> bool:
        """Whether the last attempt found another enclave, and not only nobody."""
        return self._fault is not None and not isinstance(self._fault, UnavailableError)

    def _refuse(self, fault: KluisError) -> None:
        # Before the first verdict, the error is the caller's: it ends the proxy.
        if self.verdict is not None and (self._fault is None or self._fault.message != fault.message):
            self._report(f"the enclave was not verified: {fault.message}")
        self._fault, self._failed = fault, asyncio.get_running_loop().time()
        if self._refuses():
            self._close_idle()

    def _explain(self, fault: KluisError) -> KluisError:
        """The error, with the verdict that has expired meanwhile."""
        message = fault.message
        if self.verdict is not None:
            left = self.verdict.until - elapsed()
            if left < 0:
                message = f"the enclave's verdict expired {-left:.0f} seconds ago: {message}"
        return type(fault)(message, hint=fault.hint, code=fault.code)


def _close_opened(opening: Future[Opened]) -> None:
    """Close a connection that nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().end.close()
