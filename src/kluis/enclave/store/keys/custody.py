"""Custody: a service's store, and the life of its key, declared on an application with one call.

The first instance makes the key inside and has its host keep it, sealed to the same image on the same
platform; a later instance there unseals it. An instance on another platform finds no copy that it can open,
and gets the key from one that runs (:mod:`kluis.enclave.store.keys.handover`), by four ecalls that a host
makes: ``store_key_challenge`` and ``store_key_give`` of the giver, ``store_key_ask`` and ``store_key_take``
of the joiner. The key itself never leaves but sealed. ``store_rekey`` puts a fresh one in its place.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final

import msgspec

from kluis.enclave import sealing
from kluis.enclave.app import Enclave
from kluis.enclave.inside import inside
from kluis.enclave.store import ocalls, witness
from kluis.enclave.store.host import ask_host
from kluis.enclave.store.keys.handover import Giver, Joiner, KeyGift, KeyRequest, Standing
from kluis.enclave.store.records import StoreRekey
from kluis.enclave.store.sealed import SealedStore
from kluis.enclave.store.witness import CounterWitness, Witnessed
from kluis.errors import UnavailableError
from kluis.evidence import Collateral, TrustAnchors
from kluis.formats.kluis.channel import Bytes, Info, Platform, SealKey
from kluis.hashes import sha256

Nonce = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]

SIGNER_ARGUMENT: Final = "--store-key=signer"
"""In the image's measured arguments: any image of the signer and product may have the key."""
KEY_BYTES: Final = 32
TRIES: Final = 4


class Custody:
    """A store that opens when it is first used, and its key. Thread-safe.

    Args:
        records: the host's side.
        standing: what another instance's evidence is held against.
    """

    def __init__(self, records: ocalls.HostSide, standing: Standing) -> None:
        self._records = records
        self._standing = standing
        self._lock = threading.Lock()
        self._key: bytes | None = None
        self._storage: SealedStore | None = None
        self._parties: tuple[Giver, Joiner] | None = None

    def __repr__(self) -> str:
        return f"<Custody {'open' if self._storage else 'closed'}>"

    @property
    def storage(self) -> SealedStore:
        """The store.

        Raises:
            UnavailableError: its key is on other platforms alone, and must be handed over first
                (``store_waiting``); or the host keeps nothing.
            AuthenticityError: what the host has is not this store, whole and as it was left.
        """
        with self._lock:
            if self._storage is None:
                self._open(self._find_or_make())
            return self._open_store()

    def challenge(self) -> bytes:
        """As :meth:`Giver.challenge`."""
        return self._both()[0].challenge()

    def give(self, request: KeyRequest) -> KeyGift:
        """As :meth:`Giver.give`, once the store is open here."""
        last = self.storage.last()
        with self._lock:
            key = self._key or b""
        return self._both()[0].give(request, _encode(_Handed(key, *last)))

    def ask(self, challenge: bytes) -> KeyRequest:
        """As :meth:`Joiner.ask`."""
        return self._both()[1].ask(challenge)

    def take(self, gift: KeyGift) -> None:
        """As :meth:`Joiner.take`; the store is open then, and the key kept for this platform.

        The giver tells how far the store has come, and this platform's witness hears of it first: a host
        that shows the joiner an older state, or an empty one, is found out.
        """
        handed = _handed(self._both()[1].take(gift))
        with self._lock:
            if self._storage is not None:
                return
            if handed.epoch:
                CounterWitness(handed.key, seal_policy()).advance(Witnessed(handed.epoch, handed.chain))
            self._open(handed.key)
            self._keep(handed.key, first=False)

    def rekey(self) -> int:
        """Seal everything under a fresh key, and let go of the old one; no other instance may run.

        Returns:
            How many records there are.

        Raises:
            UnavailableError: another instance wrote meanwhile (``store_busy``), or the host does not answer:
                then the store is as it was, or is done, and opens either way.
            AuthenticityError: the host is found out.
        """
        before, fresh = self.storage, os.urandom(KEY_BYTES)
        with self._lock:
            moved = before.copy_under(self._records, fresh)
            # Heard of before the host has it: it could show an empty store under the fresh key otherwise.
            CounterWitness(fresh, seal_policy()).advance(Witnessed(moved.epoch, moved.chain))
            name, sealed = self._seal(fresh)
            last = StoreRekey(moved.epoch, moved.head, moved.size, name, sealed)
            if not ask_host(self._records.rekey_finish, last):
                raise UnavailableError(
                    "store: another instance writes meanwhile",
                    hint="stop every other instance, and try again",
                    code="store_busy",
                )
            self._open(fresh)
        return moved.size

    def _open(self, key: bytes) -> None:
        policy = seal_policy()
        storage = SealedStore(self._records, key, witness=CounterWitness(key, policy))
        for former in storage.former_keys():
            witness.end(former, policy)
        self._storage, self._key = storage, key

    def _open_store(self) -> SealedStore:
        if self._storage is None:
            raise UnavailableError("store: is not open", code="store_waiting")
        return self._storage

    def _find_or_make(self) -> bytes:
        for _ in range(TRIES):
            name = platform_name()
            keys = ask_host(self._records.keys, name)
            if keys.sealed:
                return sealing.unseal(keys.sealed, associated=LABEL + name)
            if keys.any:
                raise UnavailableError(
                    "store: its key is sealed to another image, signer or platform than this enclave's",
                    hint=(
                        "the image that created it can open it there, or hand it over (store_key_give);"
                        " kluis serve with another --state starts a new store"
                    ),
                    code="store_waiting",
                )
            key = os.urandom(KEY_BYTES)
            if self._keep(key, first=True):
                return key
        raise UnavailableError("store: others make its key", hint="try again", code="store_busy")

    def _keep(self, key: bytes, first: bool) -> bool:
        return ask_host(self._records.keep_key, *self._seal(key), first)

    def _seal(self, key: bytes) -> tuple[bytes, bytes]:
        """Where a key opens again, and the key sealed so."""
        name = platform_name()
        return name, sealing.seal(key, policy=seal_policy(), associated=LABEL + name)

    def _both(self) -> tuple[Giver, Joiner]:
        with self._lock:
            if self._parties is None:
                policy = seal_policy()
                self._parties = Giver(self._standing, policy), Joiner(self._standing, policy)
            return self._parties


def declare(app: Enclave, *, now: Callable[[], datetime], standing: Standing | None = None) -> Custody:
    """Declare a store's ocalls, and the ecalls of its key's life, on an application.

    Args:
        app: the application.
        now: the time, as the service takes it to be.
        standing: what another instance's evidence is held against; None: this platform's own root and
            collateral, so that instances on platforms of one authority know each other.
    """
    custody = Custody(ocalls.declare(app), standing or _own_standing(now))

    @app.ecall
    def store_open() -> str:
        """Open the store, and say who would notice if the host set it back."""
        return custody.storage.rollback

    @app.ecall
    def store_rekey() -> int:
        """Seal everything under a fresh key; says how many records there are."""
        return custody.rekey()

    @app.ecall
    def store_key_challenge() -> bytes:
        """Begin to hand the store's key to another instance."""
        return custody.challenge()

    @app.ecall
    def store_key_ask(challenge: Nonce) -> KeyRequest:
        """Ask another instance for the store's key."""
        return custody.ask(challenge)

    @app.ecall
    def store_key_give(request: KeyRequest) -> KeyGift:
        """Seal the store's key to an instance like this one."""
        return custody.give(request)

    @app.ecall
    def store_key_take(gift: KeyGift) -> None:
        """Open the store with the key that another instance gave."""
        custody.take(gift)

    return custody


class _Handed(msgspec.Struct, array_like=True, frozen=True):
    """What goes from instance to instance: the key, and the last commit that the giver has heard of."""

    key: bytes
    epoch: int
    chain: bytes


def seal_policy() -> sealing.Policy:
    """Who may open the key: this very image, unless its measured arguments say its signer's."""
    return "signer" if SIGNER_ARGUMENT in inside("store").launch.argv else "measurement"


def platform_name() -> bytes:
    """A public name, 32 bytes, of what this enclave can open here: no other platform or image has it."""
    request = SealKey(seal_policy(), 0, sha256(LABEL), bytes(16))
    return sha256(LABEL + inside("store").attester.request(request, Bytes).value)


def _own_standing(now: Callable[[], datetime]) -> Standing:
    def standing() -> tuple[TrustAnchors, Collateral, datetime]:
        here = inside("handover").attester.request(Info(), Platform)
        return TrustAnchors.from_pem(here.root), Collateral.from_json(here.collateral), now()

    return standing


LABEL: Final = b"kluis store key 1\x00"
_encode = msgspec.msgpack.Encoder().encode
_handed = msgspec.msgpack.Decoder(_Handed).decode
