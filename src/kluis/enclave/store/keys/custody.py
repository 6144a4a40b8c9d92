"""Custody: a service's store and the life of its key, declared on an application with one call.

The first instance generates the key inside. Its host stores it, sealed to the same image on the same
platform, where a later instance unseals it. An instance on another platform finds no copy that it can open,
and gets the key from a running one (:mod:`kluis.enclave.store.keys.handover`). A host makes four ecalls for
this: ``store_key_challenge`` and ``store_key_give`` of the giver, ``store_key_ask`` and ``store_key_take`` of
the joiner. The key leaves only sealed. ``store_rekey`` replaces it by a fresh one.
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
    """A store that opens on first use, and its key. Thread-safe.

    Args:
        records: the host's side.
        standing: returns the inputs for judging another instance's evidence.
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
            UnavailableError: only other platforms have its key, which must be handed over first
                (``store_waiting``); or the host's store is unreachable.
            AuthenticityError: the host's data are not this store, complete and current.
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
        """Like :meth:`Joiner.take`; the store is open then, and the key stored for this platform.

        The giver states the store's last commit, and this platform's witness records it first. So a host that
        shows the joiner an older or empty state is detected.
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
        """Re-key: seal everything under a fresh key, and delete the old one; no other instance may run.

        Returns:
            The number of records.

        Raises:
            UnavailableError: another instance wrote meanwhile (``store_busy``), or the host does not answer:
                then the store is unchanged, or is re-keyed, and opens in both cases.
            AuthenticityError: the host's answer is not authentic.
        """
        before, fresh = self.storage, os.urandom(KEY_BYTES)
        with self._lock:
            moved = before.copy_under(self._records, fresh)
            # Recorded before the host has it: otherwise it could show an empty store under the fresh key.
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
        """The name of the platform where a key opens, and the key sealed there."""
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
        now: returns the time that the service uses.
        standing: returns the inputs for judging another instance's evidence; None: this platform's own root
            and collateral, so that instances on platforms of one authority trust each other.
    """
    custody = Custody(ocalls.declare(app), standing or _own_standing(now))

    @app.ecall
    def store_open() -> str:
        """Open the store, and return what would detect a rollback by the host."""
        return custody.storage.rollback

    @app.ecall
    def store_rekey() -> int:
        """Seal everything under a fresh key; return the number of records."""
        return custody.rekey()

    @app.ecall
    def store_key_challenge() -> bytes:
        """Begin to hand the store's key to another instance."""
        return custody.challenge()

    @app.ecall
    def store_key_ask(challenge: Nonce) -> KeyRequest:
        """Request the store's key from another instance."""
        return custody.ask(challenge)

    @app.ecall
    def store_key_give(request: KeyRequest) -> KeyGift:
        """Seal the store's key to an equivalent instance."""
        return custody.give(request)

    @app.ecall
    def store_key_take(gift: KeyGift) -> None:
        """Open the store with the key from another instance."""
        custody.take(gift)

    return custody


class _Handed(msgspec.Struct, array_like=True, frozen=True):
    """The message between instances: the key, and the last commit that the giver has seen."""

    key: bytes
    epoch: int
    chain: bytes

    def __repr__(self) -> str:
        return f"_Handed(epoch={self.epoch})"


def seal_policy() -> sealing.Policy:
    """What the key is sealed to: this exact image, unless its measured arguments select its signer."""
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
