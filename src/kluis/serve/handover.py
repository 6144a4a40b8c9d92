"""Carry the messages of a key handover between enclaves that wait for a store's key and those that have it.

The two run on different platforms and share a database. Neither host is trusted: each enclave judges the
other's evidence before it sends or accepts a key.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol

import msgspec

from kluis.enclave.store.keys.handover import KeyGift, KeyRequest
from kluis.errors import KluisError, RemoteError, UnavailableError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.serve.store.mailbox import Mailbox, Step

WAITING: Final = "store_waiting"
JOIN_SECONDS: Final = 60.0
BEAT_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.2
DEAD_SECONDS: Final = 2 * JOIN_SECONDS
"""After this time a request has no waiting process: it was killed."""


class HasStore(Protocol):
    """An enclave with a store, as declared by :mod:`kluis.enclave.store.keys.custody`."""

    def call(self, name: str, *args: Any) -> Any:
        """Call an ecall."""
        ...


def open_store(
    enclave: HasStore,
    mailbox: Mailbox,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Open an enclave's store: by itself, or with a key from another host's instance.

    Args:
        enclave: with the store.
        mailbox: of the store.
        say: prints a line for the operator.
        sleep: waits that many seconds for a giver's next heartbeat.

    Raises:
        RemoteError: it does not open, and no instance that has the key is running; or the key was refused.
        UnavailableError: no answer within a minute.
    """
    try:
        enclave.call("store_open")
    except RemoteError as error:
        if error.inner_code != WAITING or not _somebody_is_there(mailbox, sleep):
            raise
        say("asking an instance on another platform for the store's key")
        _join(enclave, mailbox)


def _somebody_is_there(mailbox: Mailbox, sleep: Callable[[float], None]) -> bool:
    """Whether a giver's heartbeat changes during the wait: an old one means nothing, and is deleted."""
    before = mailbox.read(Step.BEAT)
    while True:
        sleep(2.5 * BEAT_SECONDS)
        after = mailbox.read(Step.BEAT)
        if any(before.get(name) != beat for name, beat in after.items()):
            return True
        for name in after:
            mailbox.take_back(name, Step.BEAT)
        if not (before := mailbox.read(Step.BEAT)):  # the dead may be so many that they hide the living
            return False


def _join(enclave: HasStore, mailbox: Mailbox) -> None:
    joiner, end = os.urandom(16), time.monotonic() + JOIN_SECONDS
    mailbox.post(joiner, Step.WANTED)
    try:
        challenge = _await_step(mailbox, joiner, Step.CHALLENGE, end)
        request: KeyRequest = enclave.call("store_key_ask", challenge)
        mailbox.post(joiner, Step.REQUEST, msgspec.msgpack.encode(request))
        gift = _await_step(mailbox, joiner, Step.GIFT, end)
        enclave.call("store_key_take", msgspec.msgpack.decode(gift, type=KeyGift))
    except UNREADABLE:
        raise UnavailableError("store key: what came in the database is no answer", code=WAITING) from None
    finally:
        mailbox.clear(joiner)


def _await_step(mailbox: Mailbox, joiner: bytes, step: Step, end: float) -> bytes:
    while time.monotonic() < end:
        if (body := mailbox.find(joiner, step)) is not None:
            return body
        if (refused := mailbox.find(joiner, Step.REFUSED)) is not None:
            raise UnavailableError(
                f"store key: an instance elsewhere refused it: {refused.decode('utf-8', 'replace')}",
                code=WAITING,
            )
        time.sleep(LOOK_SECONDS)
    raise UnavailableError(f"store key: no {step.name.lower()} came in {JOIN_SECONDS:.0f} s", code=WAITING)


class KeyGivers:
    """One host's instances that have a store's key, and answer requests for it.

    Args:
        mailbox: of the store.
        clock: monotonic seconds.
    """

    def __init__(self, mailbox: Mailbox, clock: Callable[[], float] = time.monotonic) -> None:
        self._mailbox = mailbox
        self._clock = clock
        self._name = os.urandom(16)
        self._begun: dict[bytes, HasStore] = {}
        self._seen: dict[bytes, float] = {}
        self._beat = -math.inf
        self._heard = False

    def serve(self, enclave: HasStore) -> None:
        """Answer waiting requests with an enclave that has the key; returns quickly if there are none.

        Raises:
            UnavailableError: the database is unreachable.
        """
        now = self._clock()
        if now - self._beat < BEAT_SECONDS:
            return
        self._heard = False
        self._mailbox.post(self._name, Step.BEAT, os.urandom(8))
        self._heard, self._beat = True, now  # only then: one that was not heard is due at once
        wanted = self._mailbox.read(Step.WANTED)
        self._forget_the_dead(wanted, now)
        for joiner in wanted:
            if joiner in self._seen and self._mailbox.find(joiner, Step.CHALLENGE) is None:
                # The challenge belongs to this enclave: only it can answer the request over it.
                self._begun[joiner] = enclave
                self._mailbox.post(joiner, Step.CHALLENGE, enclave.call("store_key_challenge"))
        for joiner in list(self._begun):
            body = self._mailbox.find(joiner, Step.REQUEST)
            if body is None:
                if self._mailbox.find(joiner, Step.WANTED) is None:
                    del self._begun[joiner]  # the requester has gone
            elif all(self._mailbox.find(joiner, each) is None for each in (Step.GIFT, Step.REFUSED)):
                self._answer(joiner, body, self._begun.pop(joiner))

    def close(self) -> None:
        """Stop announcing this host; if the database is unreachable, the announcement expires."""
        if self._heard:
            with contextlib.suppress(UnavailableError):
                self._mailbox.clear(self._name)

    def _forget_the_dead(self, wanted: Collection[bytes], now: float) -> None:
        """Drop expired join requests, so that old ones cannot crowd out a live one."""
        self._seen = {joiner: self._seen.get(joiner, now) for joiner in wanted}
        for joiner in [one for one, since in self._seen.items() if now - since > DEAD_SECONDS]:
            del self._seen[joiner]
            self._mailbox.clear(joiner)

    def _answer(self, joiner: bytes, body: bytes, enclave: HasStore) -> None:
        try:
            gift = enclave.call("store_key_give", msgspec.msgpack.decode(body, type=KeyRequest))
        except (*UNREADABLE, KluisError) as error:
            self._mailbox.post(joiner, Step.REFUSED, str(error)[:4096].encode())
        else:
            self._mailbox.post(joiner, Step.GIFT, msgspec.msgpack.encode(gift))
