"""The signing keys of an instance's tokens: generated inside, and published before they sign.

A key signs for some time; then a new one is generated. The new key is published before it signs, because
clients cache keys. The old key's certificate stays published until its last token has expired, but its
private key is deleted. Once a rotation is acknowledged, every process of the service has its result: each
reads a mark of the keys under a lease. Each certificate contains the evidence of the enclave that generated
the key (:mod:`kluis.formats.kluis.vouched`), if there is one.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from kluis.enclave.store.keys.lease import Leases
from kluis.enclave.store.model import Storage, Writing
from kluis.errors import InternalError
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.services.attestation.faults import InvalidOperation
from kluis.services.attestation.settings import DAY, AttestationSettings
from kluis.services.attestation.tokens.settings_digest import digest
from kluis.services.attestation.tokens.signing_certificate import Vouch, certify, key_id, stands_on
from kluis.services.attestation.tokens.signing_key import SigningKey

TABLE: Final = "attestation.signing"
MARKS: Final = "attestation.signing.marks"
BITS: Final = 2048
# How long an instance's keys are cached at most; they are read again at once when their mark changed.
HELD_SECONDS: Final = 30
# A token's verifier may be slow, and have another clock.
GRACE_SECONDS: Final = DAY
# Limit of published keys of one instance: a client reads this many, and 256 KiB, of which each takes 9.
MOST_KEYS: Final = 24
MOST_HELD: Final = 1024


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key in the store; ``private`` is empty once it no longer signs."""

    kid: str
    certificate: bytes
    private: bytes
    created: int
    signs_from: int
    published_until: int | None = None

    def __repr__(self) -> str:
        return f"_Kept({self.kid!r})"


class _Ring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An instance's keys in the store, oldest first."""

    version: int
    keys: tuple[_Kept, ...]


@frozen
class _Held:
    ring: _Ring
    mark: bytes
    at: datetime


class SigningKeys:
    """The keys of every instance of one service.

    Args:
        settings: how long a key signs, and is published before.
        storage: of the keys.
        vouch: makes this enclave quote a statement; returns None if there is no enclave.
        issuer: of the callers' tokens, from :func:`kluis.services.issuers.canonical`.
    """

    def __init__(self, settings: AttestationSettings, storage: Storage, vouch: Vouch, issuer: bytes) -> None:
        self._settings = settings
        self._storage = storage
        self._leases = Leases(storage)
        self._vouch = vouch
        self._digest = digest(settings, issuer)
        self._held: dict[str, _Held] = {}
        self._loaded: dict[str, SigningKey] = {}
        self._lock = threading.RLock()

    def current(self, instance: str, url: str, now: datetime) -> SigningKey:
        """The key that signs now; a first or next one is generated if needed.

        Args:
            instance: by its ``key``.
            url: issuer of its tokens.
            now: aware.
        """
        ring = self._ring(instance, url, now)
        at = int(now.timestamp())
        signing = [key for key in ring.keys if key.signs_from <= at and key.private]
        # If a host sets the clock to the past, no key signs yet: then use the oldest that can.
        newest = signing[-1] if signing else next(key for key in ring.keys if key.private)
        if at - newest.created > self._settings.key_seconds and newest is ring.keys[-1]:
            self.rotate(instance, url, now, self._settings.publish_seconds, only_after=newest.kid)
        return self._load(newest, url)

    def published_keys(self, instance: str, url: str, now: datetime) -> list[tuple[str, bytes]]:
        """Key id and certificate, DER, of every key whose tokens may still be valid, newest first."""
        ring, at = self._ring(instance, url, now), int(now.timestamp())
        return [
            (key.kid, key.certificate)
            for key in reversed(ring.keys)
            if key.published_until is None or at < key.published_until
        ]

    def rotate(
        self, instance: str, url: str, now: datetime, delay_seconds: int, *, only_after: str | None = None
    ) -> str:
        """Generate a new key. It is published at once, and signs after ``delay_seconds``.

        Args:
            instance: by its ``key``.
            url: issuer of its tokens.
            now: aware.
            delay_seconds: 0 if the old key must not sign another token; then the oldest keys are dropped if
                there are too many.
            only_after: the key to replace; nothing is done if it is no longer the newest, because another
                process was faster.

        Returns:
            The id of the newest key.

        Raises:
            InvalidOperation: the limit of published keys is reached.
        """
        made = self._make(url, now, delay_seconds)
        at = int(now.timestamp())

        def work(store: Writing) -> _Ring:
            there = _read(store.get(TABLE, self._place(instance)))
            if only_after is not None and (not there.keys or there.keys[-1].kid != only_after):
                return there
            keys = [self._age(key, at, made.signs_from) for key in there.keys]
            published = [key for key in keys if key.published_until is None or at < key.published_until]
            if len(published) >= MOST_KEYS and delay_seconds and only_after is None:
                raise _too_many(published)
            return self._write(store, instance, (*published[1 - MOST_KEYS :], made))

        ring = self._storage.update(work)
        with self._lock:
            self._keep(instance, ring, now)
        if only_after is None:
            self._leases.settle()
        return ring.keys[-1].kid

    def forget(self, name: str, store: Writing) -> None:
        """Delete the keys of every life of an instance's name, as part of a transaction."""
        for place in [place for place, _ in store.scan(TABLE, name)]:
            store.delete(TABLE, place)
            store.delete(MARKS, place)

    def let_go(self, instance: str) -> None:
        """Drop everything cached for a deleted instance."""
        with self._lock:
            entry = self._held.pop(instance, None)
            for key in entry.ring.keys if entry is not None else ():
                self._loaded.pop(key.kid, None)

    def _ring(self, instance: str, url: str, now: datetime) -> _Ring:
        entry, mark = self._held.get(instance), self._leases.get(MARKS, self._place(instance))
        same = entry is not None and mark in (entry.mark, None)  # None: the instance was deleted
        if entry is not None and same and abs((now - entry.at).total_seconds()) < HELD_SECONDS:
            return entry.ring
        with self._lock:
            ring = _read(self._storage.get(TABLE, self._place(instance)))
            there_before = bool(ring.keys)
            if not ring.keys:
                first = self._make(url, now, 0)

                def work(store: Writing) -> _Ring:
                    # Another process of the service may have been first.
                    there = _read(store.get(TABLE, self._place(instance)))
                    return there if there.keys else self._write(store, instance, (first,))

                ring = self._storage.update(work)
            elif mark is None or any(self._over(key, int(now.timestamp())) for key in ring.keys):
                ring = self._storage.update(lambda store: self._wipe(store, instance, now))
            if entry is None and there_before:
                ring = self._renew(instance, url, ring, now)
            self._keep(instance, ring, now)
            return ring

    def _renew(self, instance: str, url: str, ring: _Ring, now: datetime) -> _Ring:
        """Renew the keys once at each start, with evidence of the current platform and image.

        After a TCB recovery a re-certified platform is still out of date according to its old evidence.
        """
        fresh: dict[str, bytes] = {}
        for key in ring.keys:
            if not key.private:
                continue
            private = _private(key.private)
            life = max(key.signs_from - int(now.timestamp()), 0) + self._life_seconds
            made = certify(private, url, now, life, self._vouch, self._digest)
            if stands_on(made) != stands_on(key.certificate):
                fresh[key.kid] = made
        if not fresh:
            return ring

        def work(store: Writing) -> _Ring:
            there = _read(store.get(TABLE, self._place(instance)))
            keys = [
                msgspec.structs.replace(key, certificate=fresh[key.kid]) if key.kid in fresh else key
                for key in there.keys
            ]
            return self._write(store, instance, tuple(keys))

        return self._storage.update(work)

    def _over(self, key: _Kept, at: int) -> bool:
        """Whether a key that no longer signs still has its private key."""
        if key.published_until is None or not key.private:
            return False
        return at >= key.published_until - self._published_seconds + 2 * HELD_SECONDS

    def _wipe(self, store: Writing, instance: str, now: datetime) -> _Ring:
        at, there = int(now.timestamp()), _read(store.get(TABLE, self._place(instance)))
        wiped = [
            msgspec.structs.replace(key, private=b"") if self._over(key, at) else key for key in there.keys
        ]
        return self._write(store, instance, tuple(wiped))

    @property
    def _published_seconds(self) -> int:
        """How long a key is published after it signed its last token."""
        return self._settings.longest_token_seconds + GRACE_SECONDS

    @property
    def _life_seconds(self) -> int:
        """Lifetime of a key's certificate, from when the key signs."""
        return self._settings.key_seconds + self._settings.longest_token_seconds + 30 * DAY

    def _age(self, key: _Kept, at: int, replaced_at: int) -> _Kept:
        """A key after a newer one was generated: it ends when the newer one starts, and is then only a
        certificate. A newer one that starts at once ends every other, also one whose successor only waits.
        """
        ended = replaced_at <= at or self._over(key, at)
        until = key.published_until
        return msgspec.structs.replace(
            key,
            published_until=replaced_at + self._published_seconds if until is None else until,
            private=b"" if ended else key.private,
        )

    def _keep(self, instance: str, ring: _Ring, now: datetime) -> None:
        """Cache what was read, under the lock."""
        before = self._held.pop(instance, None)
        for key in before.ring.keys if before is not None else ():
            if key not in ring.keys:
                self._loaded.pop(key.kid, None)
        while len(self._held) >= MOST_HELD:  # others of the service's processes delete instances, too
            self.let_go(next(iter(self._held), instance))
        self._held[instance] = _Held(ring, _mark(ring), now)

    def _make(self, url: str, now: datetime, delay_seconds: int) -> _Kept:
        private = rsa.generate_private_key(65537, BITS)
        at = int(now.timestamp())
        life = delay_seconds + self._life_seconds
        return _Kept(
            kid=key_id(private.public_key()),
            certificate=certify(private, url, now, life, self._vouch, self._digest),
            private=private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            created=at,
            signs_from=at + delay_seconds,
        )

    def _place(self, instance: str) -> str:
        """The place of an instance's keys: a key never signs under other settings than those in its
        evidence.
        """
        return f"{instance}/{self._digest.hex()}"

    def _write(self, store: Writing, instance: str, keys: tuple[_Kept, ...]) -> _Ring:
        ring = _Ring(1, keys)
        store.put(
            TABLE, self._place(instance), msgspec.msgpack.encode(ring), index=instance.partition(".")[0]
        )
        store.put(MARKS, self._place(instance), _mark(ring))
        return ring

    def _load(self, key_record: _Kept, url: str) -> SigningKey:
        key = self._loaded.get(key_record.kid)
        if key is None:
            private = _private(key_record.private)
            key = self._loaded[key_record.kid] = SigningKey(
                key_record.kid, key_record.certificate, private, url
            )
        return key


def _read(data: bytes | None) -> _Ring:
    return _Ring(1, ()) if data is None else msgspec.msgpack.decode(data, type=_Ring)


def _mark(ring: _Ring) -> bytes:
    """Another value for other keys; nothing secret."""
    parts = [(each.kid, each.certificate, bool(each.private), each.published_until) for each in ring.keys]
    return sha256(msgspec.msgpack.encode(parts))


def _private(data: bytes) -> rsa.RSAPrivateKey:
    private = load_der_private_key(data, None)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise InternalError("signing key: is no RSA key")
    return private


def _too_many(keys: list[_Kept]) -> InvalidOperation:
    ends = min(key.published_until for key in keys if key.published_until is not None)
    return InvalidOperation(
        f"signing keys: want at most {MOST_KEYS} that are published, got one more; the oldest's last token "
        f"may hold until {datetime.fromtimestamp(ends, UTC):%Y-%m-%d}",
        hint='wait; or "signs_in_seconds": 0, where the present key must not sign: the oldest gives way',
    )
