"""The service's authority: created inside, sealed in the store, with its last publication.

Documents are signed once a day, or when something changes, and stored. So all processes of the service return
the same bytes, and a client that remembers what it saw never gets anything older.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from kluis import authority
from kluis.authority import Keys, Published, State, issuing
from kluis.enclave.store.model import Reading, Storage, Writing
from kluis.errors import FormatError, InternalError
from kluis.formats import x509
from kluis.hashes import sha256
from kluis.services.provisioning import records
from kluis.services.provisioning.records import decode, encode

TABLE: Final = "authority"
OWN: Final = "own"
PUBLISHED: Final = "published"
PUBLISH_EACH: Final = timedelta(hours=24)


class Authority:
    """The authority of several owners' platforms.

    Args:
        storage: the service's.
        level: protection level of the platforms that it certifies; contained in the root's name.
    """

    def __init__(self, storage: Storage, level: str) -> None:
        self._storage = storage
        self._level = level
        self._held: tuple[bytes, authority.Authority] | None = None

    def open(self, now: datetime) -> None:
        """Create the authority's keys, unless they exist.

        Raises:
            UsageError: an invalid level, or the existing authority has another one.
            UnavailableError: the store cannot be read or written.
        """
        if self._storage.get(TABLE, OWN) is None:
            made = _record(authority.Authority.create(self._level, now))

            def first(store: Writing) -> None:
                if store.get(TABLE, OWN) is None:
                    store.put(TABLE, OWN, made)

            self._storage.update(first)
        level = self.load().state.level
        if level != self._level:
            raise FormatError(
                f"authority.level: want {self._level}, as the settings say, got {level}, as it was made",
                hint="set the level back, or give the service an empty store",
                code="authority_level",
            )

    def load(self, store: Reading | None = None) -> authority.Authority:
        """Load the authority from the store.

        Raises:
            UnavailableError: the store cannot be read.
            AuthenticityError: the store was changed or rolled back.
        """
        data = (store or self._storage).get(TABLE, OWN)
        if data is None:
            raise InternalError("authority: was not opened")
        loaded = self._held
        if loaded is None or loaded[0] != data:
            loaded = self._held = data, _authority(data)
        # A changed authority must not be the cached object.
        return authority.Authority(loaded[1].keys, loaded[1].state)

    @property
    def root(self) -> bytes:
        """SHA-256 of the root certificate, DER."""
        (certificate,) = x509.parse_pem(self.load().root_pem(), "root")
        return sha256(certificate.der)

    def change(self, work: Callable[[authority.Authority, Writing], None]) -> State:
        """Change the authority's requirements or revocations, and related records, in one transaction.

        Args:
            work: may run more than once; it must sign nothing.

        Returns:
            The new state.

        Raises:
            UnavailableError: the store cannot be written.
        """

        def change(store: Writing) -> State:
            own = self.load(store)
            work(own, store)
            store.put(TABLE, OWN, _record(own))
            return own.state

        return self._storage.update(change)

    def publish(self, now: datetime) -> Published:
        """The authority's current publication: signed today, and since its last change.

        Raises:
            UnavailableError: the store cannot be read or written.
        """
        own = self.load()
        mark = sha256(own.state.encode())
        current = _current(self._storage, mark, now)
        if current is not None:
            return current
        made = own.publish(now)
        record = encode(records.Published(state=mark, issued=issuing.zulu(now), said=made))

        def put(store: Writing) -> Published:
            theirs = _current(store, mark, now)
            if theirs is not None:
                return theirs
            if self.load(store).state == own.state:  # else somebody changed it meanwhile, and it is old
                store.put(TABLE, PUBLISHED, record)
            return made

        return self._storage.update(put)


def _current(store: Reading, mark: bytes, now: datetime) -> Published | None:
    """The publication of this state, if it is from today."""
    data = store.get(TABLE, PUBLISHED)
    if data is None:
        return None
    record = decode(data, records.Published)
    age = now - datetime.fromisoformat(record.issued)
    if record.state != mark or not -timedelta(minutes=5) <= age < PUBLISH_EACH:
        return None
    return record.said


def _record(own: authority.Authority) -> bytes:
    keys = own.keys
    record = records.Authority(
        root=_der(keys.root),
        platform_ca=_der(keys.platform_ca),
        tcb_signing=_der(keys.tcb_signing),
        state=own.state.encode(),
    )
    return encode(record)


def _authority(data: bytes) -> authority.Authority:
    record = decode(data, records.Authority)
    keys = Keys(
        root=_key(record.root), platform_ca=_key(record.platform_ca), tcb_signing=_key(record.tcb_signing)
    )
    return authority.Authority(keys, State.parse(record.state))


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _key(data: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_der_private_key(data, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FormatError("record: want a P-256 key", code="bad_type")
    return key
