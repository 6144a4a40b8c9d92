"""Stateless challenges: each comes with a context that proves when the service issued it.

    service_context = challenge (32 bytes) || seconds since 1970 (8) || HMAC-SHA256 (32)

The HMAC includes the instance's name, so that one instance's challenge is not valid for another. A challenge
is valid for some minutes, and for any number of requests in that time: freshness comes from the TPM's quote.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from datetime import datetime
from typing import Final

from kluis.enclave.store.model import Storage, Writing
from kluis.services.attestation.faults import InvalidEvidence

TABLE: Final = "attestation.challenges"
KEY: Final = "key"
CHALLENGE_BYTES: Final = 32
_TIME_BYTES: Final = 8
_SIZE: Final = CHALLENGE_BYTES + _TIME_BYTES + 32


class Challenges:
    """Issues challenges, and recognizes its own.

    Args:
        storage: of the HMAC key, for all instances of the service.
        seconds: lifetime of a challenge.
    """

    def __init__(self, storage: Storage, seconds: int) -> None:
        self._storage = storage
        self._seconds = seconds
        self._key = b""

    def __repr__(self) -> str:
        return f"<Challenges good for {self._seconds} s>"

    def make(self, instance: str, now: datetime) -> tuple[bytes, bytes]:
        """A new challenge, 32 bytes, and its context."""
        challenge = os.urandom(CHALLENGE_BYTES)
        at = int(now.timestamp()).to_bytes(_TIME_BYTES, "big")
        return challenge, challenge + at + self._code(instance, challenge + at)

    def check(self, instance: str, challenge: bytes, context: bytes, now: datetime) -> None:
        """Check that a challenge was issued by this instance, and has not expired.

        Raises:
            InvalidEvidence: code ``challenge``.
        """
        made, at, code = context[:32], context[32:40], context[40:]
        good = len(context) == _SIZE and hmac.compare_digest(code, self._code(instance, made + at))
        if not good or not hmac.compare_digest(made, challenge):
            raise InvalidEvidence(
                "challenge: want one that this instance made, with its service_context, got another",
                hint="start again: request a challenge",
                code="challenge",
            )
        age = int(now.timestamp()) - int.from_bytes(at, "big")
        if not 0 <= age <= self._seconds:
            raise InvalidEvidence(
                f"challenge: want one of the last {self._seconds} seconds, got one of {age} seconds ago",
                hint="start again: request a challenge",
                code="challenge",
            )

    def _code(self, instance: str, data: bytes) -> bytes:
        if not self._key:
            self._key = self._stored_key()
        name = instance.encode()
        return hmac.digest(self._key, len(name).to_bytes(2, "big") + name + data, hashlib.sha256)

    def _stored_key(self) -> bytes:
        key = self._storage.get(TABLE, KEY)
        if key is not None:
            return key
        fresh = os.urandom(32)

        def work(store: Writing) -> bytes:
            there = store.get(TABLE, KEY)
            if there is None:
                store.put(TABLE, KEY, fresh)
            return there or fresh

        return self._storage.update(work)
