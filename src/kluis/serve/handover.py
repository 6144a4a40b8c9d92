"""The hosts' part in a handover: carry messages between who waits for a store's key and who has it.

The two run on different platforms and share a database. Neither host is trusted: each enclave judges the
other's evidence before a key leaves, and before one is taken.
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
"""After so long nobody waits for an answer any more: whoever asked was killed."""


class HasStore(Protocol):
    """An enclave with a store, as :mod:`kluis.enclave.store.keys.custody` declares it."""

    def call(self, name: str, *args: Any) -> Any:
        """Call an ecall."""
        ...


def open_store(
    enclave: HasStore,
    mailbox: Mailbox,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """See an enclave's store open: by itself, or with a key that an instance elsewhere hands over.

    Args:
        enclave: has the store.
        mailbox: of the store.
        say: takes a line for the operator.
        sleep: waits that many seconds for a giver's next beat.

    Raises:
        RemoteError: it does not open, and nobody who has the key is there; or it was refused one.
        UnavailableError: nobody answered in a minute.
    """
    try:
        enclave.call("store_open")
    except RemoteError as error:
        if error.inner_code != WAITING or not _somebody_is_there(mailbox, sleep):
            raise
        say("asking an instance on another platform for the store's key")
        _join(enclave, mailbox)


def _somebody_is_there(mailbox: Mailbox, sleep: Callable[[float], None]) -> bool:
    """Whether a giver's beat changes while one looks: an old one says nothing, and is forgotten."""
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
    """One host's instances that have a store's key, and answer who asks for it.

    Args:
        mailbox: of the store.
        clock: seconds that only grow.
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
        """Answer what waits, with an enclave that has the key; quick where nothing does.

        Raises:
            UnavailableError: the database does not answer.
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
                # The challenge is this enclave's: it alone answers the request over it.
                self._begun[joiner] = enclave
                self._mailbox.post(joiner, Step.CHALLENGE, enclave.call("store_key_challenge"))
        for joiner in list(self._begun):
            body = self._mailbox.find(joiner, Step.REQUEST)
            if body is None:
                if self._mailbox.find(joiner, Step.WANTED) is None:
                    del self._begun[joiner]  # who asked has gone
            elif all(self._mailbox.find(joiner, each) is None for each in (Step.GIFT, Step.REFUSED)):
                self._answer(joiner, body, self._begun.pop(joiner))

    def close(self) -> None:
        """Say no more that somebody is there; a database that is away hears it by the silence."""
        if self._heard:
            with contextlib.suppress(UnavailableError):
                self._mailbox.clear(self._name)

    def _forget_the_dead(self, wanted: Collection[bytes], now: float) -> None:
        """Forget what joiners asked who are long gone: so many could hide who asks now."""
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
