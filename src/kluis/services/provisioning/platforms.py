"""The platforms of the authority: they request certificates; an owner approves, re-certifies and revokes.

A PPID identifies a platform, which proves possession of its key. Its TCB is only its own claim, as far as
claims of an emulated platform go. So a platform that an owner has not seen waits for the owner, and one that
claims more than it was certified for waits again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from kluis.authority import Authority as Own
from kluis.authority import issuing
from kluis.authority.enrolment import Enrolment, name_of
from kluis.authority.state import REVOKED, TcbLevel
from kluis.enclave.store.model import Reading, Storage, Writing
from kluis.errors import PolicyError, UnavailableError, UsageError
from kluis.frozen import frozen
from kluis.services.provisioning import replays
from kluis.services.provisioning.authority import Authority
from kluis.services.provisioning.records import Certificate, Holder, Pending, Platform, Terms, decode, encode
from kluis.services.provisioning.replays import MAX_PENDING, PENDING

PLATFORMS: Final = "platforms"
KEYS: Final = "keys"
TERMS: Final = "terms"
MAX_PLATFORMS: Final = 4096
MAX_CERTIFICATES: Final = 32
MAX_UNASKED: Final = 4
"""Certificates of one key up to which a lower TCB needs no approval."""
_PPID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_NEW_KEYS: Final = "kluis platform certify --new-keys, then enroll; the owner must allow the new key"

Versions: TypeAlias = Enrolment | Pending | Certificate


@frozen(kw_only=True)
class Known:
    """A platform as listed for its owner.

    Attributes:
        ppid: 32 hex digits.
        key: 32 hex digits that identify its key.
        cpusvn: 32 hex digits, certified or requested.
        status: of its certificate for a verifier, including ``Revoked``; or ``pending``.
    """

    ppid: str
    key: str
    cpusvn: str
    pcesvn: int
    status: str


class Platforms:
    """Certifies platforms.

    Args:
        storage: the service's.
        authority: that signs; already opened.
    """

    def __init__(self, storage: Storage, authority: Authority) -> None:
        self._storage = storage
        self._authority = authority

    @property
    def rollback(self) -> str:
        """What would detect a rollback by the host: its name, or ``undetected``."""
        return self._storage.rollback

    def open_to_all(self, everyone: bool) -> None:
        """Set whether every platform is certified on request, or only those that an owner approves."""
        self._storage.update(lambda store: store.put(TERMS, TERMS, encode(Terms(open=everyone))))

    def enrol(self, request: bytes, now: datetime) -> bytes | None:
        """Certify a platform on request, or let it wait for an owner.

        Args:
            request: signed by the platform; untrusted.
            now: aware.

        Returns:
            The chain, PEM: PCK certificate, platform CA, root; or None: an owner must approve it first.

        Raises:
            FormatError, AuthenticityError, FreshnessError: as for :meth:`Enrolment.open`.
            PolicyError: its key is revoked, or is another platform's; or another key waits under its name.
            UnavailableError: too many are waiting already.
        """
        own = self._authority
        level = own.load().state.level
        enrolment = Enrolment.open(request, root=own.root, level=level, now=now)
        ppid = enrolment.ppid.hex()
        known = self._get(self._storage, ppid)
        replays.refuse(self._storage, known, enrolment)
        if known is not None and known.key == enrolment.key:
            _refuse_revoked(known, ppid)
            if (certificate := known.certificate(enrolment.cpusvn, enrolment.pcesvn)) is not None:
                self._see(ppid, enrolment.key, enrolment.made)
                return certificate.chain
        _refuse_held(self._storage, ppid, enrolment.key)
        if self._is_allowed(known, enrolment):
            return self._sign(
                ppid, known, enrolment.key, enrolment.cpusvn, enrolment.pcesvn, enrolment.made, now, enrolment
            )
        waiting = encode(
            Pending(key=enrolment.key, cpusvn=enrolment.cpusvn, pcesvn=enrolment.pcesvn, made=enrolment.made)
        )

        def wait(store: Writing) -> None:
            replays.refuse(store, self._get(store, ppid), enrolment)
            self._keep_place(store, ppid, enrolment)
            others = sum(1 for key, _ in store.scan(PENDING) if key != ppid)
            if others >= MAX_PENDING:
                raise UnavailableError(
                    f"enrolment: want at most {MAX_PENDING} platforms that wait, got one more",
                    hint="the owner allows those that wait, or refuses them",
                    code="enrolment_busy",
                )
            store.put(PENDING, ppid, waiting)

        self._storage.update(wait)
        return None

    def certify(
        self, ppid: str, cpusvn: bytes | None, pcesvn: int | None, now: datetime, named: str | None = None
    ) -> bytes:
        """Approve a waiting platform, or re-certify one, on an owner's order.

        Args:
            ppid: 32 hex digits.
            cpusvn: 16 bytes; None: the requested or current ones.
            pcesvn: 0..65535; None: the requested or current one.
            now: aware.
            named: the intended key, as in :class:`Known`; None: the only one, unless it would replace
                another.

        Returns:
            The chain, PEM.

        Raises:
            UsageError: no such platform, or no such TCB; or another key than the intended one.
            PolicyError: its key is revoked, and it has not requested with another; or is another platform's.
        """
        if (cpusvn is not None and len(cpusvn) != 16) or (pcesvn is not None and not 0 <= pcesvn <= 0xFFFF):
            raise UsageError("certify: want 16 bytes of cpusvn and a pcesvn of 0..65535")
        known = self._get(self._storage, ppid)
        data = self._storage.get(PENDING, ppid)
        waits = None if data is None else decode(data, Pending)
        if waits is not None and known is not None and named == name_of(known.key) != name_of(waits.key):
            waits = None  # another requester uses its name: that is no reason to make it wait
        if waits is not None:
            key, made, last = waits.key, waits.made, (waits.cpusvn, waits.pcesvn)
        elif known is not None:
            _refuse_revoked(known, ppid)
            newest = known.certificates[0]
            key, made, last = known.key, known.made, (newest.cpusvn, newest.pcesvn)
        else:
            raise _unknown_error(ppid)
        _check_named(ppid, known, key, named)
        tcb = last[0] if cpusvn is None else cpusvn, last[1] if pcesvn is None else pcesvn
        return self._sign(ppid, known, key, *tcb, made, now)

    def refuse(self, ppid: str) -> None:
        """Delete the request of a waiting platform.

        Raises:
            UsageError: no platform of that name is waiting.
        """
        self._get(self._storage, ppid)

        def refuse(store: Writing) -> None:
            data = store.get(PENDING, ppid)
            if data is None:
                raise _unknown_error(ppid)
            waits = decode(data, Pending)
            store.delete(PENDING, ppid)
            if not _see(store, ppid, self._get(store, ppid), waits.key, waits.made):
                replays.remember(store, ppid, waits)

        self._storage.update(refuse)

    def revoke(self, ppid: str, now: datetime) -> None:
        """Revoke every certificate of a platform's key; the key is never certified again.

        Raises:
            UsageError: no such platform.
        """
        if self._get(self._storage, ppid) is None:
            raise _unknown_error(ppid)

        def revoke(own: Own, store: Writing) -> None:
            known = self._get(store, ppid)
            if known is None or known.revoked:
                return
            for certificate in known.certificates:
                own.revoke(certificate.chain, now)
            at = issuing.zulu(now)
            store.put(PLATFORMS, ppid, encode(msgspec.structs.replace(known, revoked=at)))
            store.put(KEYS, known.key.hex(), encode(Holder(ppid=ppid, revoked=at)))

        self._authority.change(revoke)

    def all(self) -> Iterator[Known]:
        """Every platform, certified ones first."""
        state = self._authority.load().state
        for ppid, data in self._storage.scan(PLATFORMS):
            platform = decode(data, Platform)
            newest = platform.certificates[0]
            status = REVOKED if platform.revoked else state.status(newest.cpusvn, newest.pcesvn)
            yield _describe(ppid, platform.key, newest.cpusvn, newest.pcesvn, status)
        for ppid, data in self._storage.scan(PENDING):
            waits = decode(data, Pending)
            yield _describe(ppid, waits.key, waits.cpusvn, waits.pcesvn, "pending")

    def certificates(self, ppid: str) -> tuple[Certificate, ...]:
        """A platform's certificates, newest first; empty if it is unknown or revoked."""
        known = self._get(self._storage, ppid)
        return () if known is None or known.revoked else tuple(known.certificates)

    @staticmethod
    def _get(store: Reading, ppid: str) -> Platform | None:
        if _PPID.fullmatch(ppid) is None:
            raise UsageError(f"ppid: want 32 hex digits, got {ppid[:64]!a}")
        data = store.get(PLATFORMS, ppid)
        return None if data is None else decode(data, Platform)

    def _see(self, ppid: str, key: bytes, made: str) -> None:
        """Record the time of a certified platform's request, so that no older one is accepted after it."""
        known = self._get(self._storage, ppid)
        if known is not None and known.key == key and known.made < made:
            self._storage.update(lambda store: _see(store, ppid, self._get(store, ppid), key, made))

    def _keep_place(self, store: Reading, ppid: str, enrolment: Enrolment) -> None:
        """Refuse what would replace a request that an owner may already have reviewed: another key, or higher
        versions.
        """
        data, known, key = store.get(PENDING, ppid), self._get(store, ppid), enrolment.key
        if data is None:
            return
        waits = decode(data, Pending)
        if waits.key == key and not _is_within(enrolment, waits):
            raise PolicyError(
                f"platform {ppid}: want at most what waits, cpusvn {waits.cpusvn.hex()} and pcesvn"
                f" {waits.pcesvn}, got {enrolment.cpusvn.hex()} and {enrolment.pcesvn}",
                hint="the owner certifies what waits, or refuses it; then enroll again",
                code="enrolment_versions",
            )
        if waits.key != key and (known is None or known.key != key):
            raise PolicyError(
                f"platform {ppid}: want the key that waits, {name_of(waits.key)}, got {name_of(key)}",
                hint="the owner refuses the one that waits, or certifies it, if it is the platform's own",
                code="enrolment_key",
            )

    def _is_allowed(self, known: Platform | None, enrolment: Enrolment) -> bool:
        if known is not None and known.key != enrolment.key:
            return False  # or anyone could put their key in the place of a platform's
        terms = self._storage.get(TERMS, TERMS)
        if terms is not None and decode(terms, Terms).open:
            return True
        if known is None:
            return False
        if len(known.certificates) >= MAX_UNASKED:
            return False  # the list of what was revoked ends somewhere, and takes each of them
        return _is_within(enrolment, known.certificates[0])

    def _sign(
        self,
        ppid: str,
        known: Platform | None,
        key: bytes,
        cpusvn: bytes,
        pcesvn: int,
        made: str,
        now: datetime,
        enrolment: Enrolment | None = None,
    ) -> bytes:
        same = known if known is not None and known.key == key else None
        old = [] if same is None else same.certificates
        certificate = None if same is None else same.certificate(cpusvn, pcesvn)
        if certificate is None:
            if len(old) >= MAX_CERTIFICATES:
                raise UsageError(
                    f"platform {ppid}: want at most {MAX_CERTIFICATES} certificates of one key, got one more",
                    hint="revoke it, and let it ask with another key",
                )
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
            chain = self._authority.load().certify(
                point, ppid=bytes.fromhex(ppid), cpusvn=cpusvn, pcesvn=pcesvn, now=now
            )
            certificate = Certificate(cpusvn=cpusvn, pcesvn=pcesvn, chain=chain)
        others = [one for one in old if one != certificate]
        seen = made if same is None else max(made, same.made)
        record = encode(Platform(key=key, certificates=[certificate, *others], revoked="", made=seen))

        def put(own: Own, store: Writing) -> None:
            if self._get(store, ppid) != known:
                raise UnavailableError(
                    f"platform {ppid}: was changed by another at the same time",
                    hint="ask again",
                    code="enrolment_busy",
                )
            if enrolment is not None:
                replays.refuse(store, known, enrolment)
            _refuse_held(store, ppid, key)
            store.put(KEYS, key.hex(), encode(Holder(ppid=ppid, revoked="")))
            # A replaced key no longer certifies anything.
            for gone in () if known is None or same is not None else known.certificates:
                own.revoke(gone.chain, now)
            if known is None and sum(1 for _ in store.scan(PLATFORMS)) >= MAX_PLATFORMS:
                raise UnavailableError(
                    f"enrolment: want at most {MAX_PLATFORMS} platforms, got one more",
                    hint="only platforms that the owner approved are accepted: POST /kluis/terms",
                    code="enrolment_busy",
                )
            store.put(PLATFORMS, ppid, record)
            data = store.get(PENDING, ppid)
            waits = None if data is None else decode(data, Pending)
            # Higher versions go on waiting when lower ones were certified unasked.
            if enrolment is None or waits is None or waits.key != key or _is_within(waits, enrolment):
                store.delete(PENDING, ppid)

        self._authority.change(put)
        return certificate.chain


def _is_within(asked: Versions, versions: Versions) -> bool:
    """Whether ``asked`` are no higher versions than the others."""
    level = TcbLevel(cpusvn=asked.cpusvn, pcesvn=asked.pcesvn, status="", date="")
    return level.reached_by(versions.cpusvn, versions.pcesvn)


def _see(store: Writing, ppid: str, known: Platform | None, key: bytes, made: str) -> bool:
    """Record the time of a request with its platform, if it is certified with this key; return whether it
    is.
    """
    if known is None or known.key != key:
        return False
    if known.made < made:
        store.put(PLATFORMS, ppid, encode(msgspec.structs.replace(known, made=made)))
    return True


def _check_named(ppid: str, known: Platform | None, key: bytes, named: str | None) -> None:
    """Any requester can use a known name: an owner who approves another key must name it."""
    got = name_of(key)
    if named is None and known is not None and known.key != key:
        raise UsageError(
            f"platform {ppid} key: want {got}, which waits, or {name_of(known.key)}, which it has, got none",
            hint="compare with the output of kluis platform status on that platform, and name it",
            code="platform_key",
        )
    if named not in (None, got):
        raise UsageError(f"platform {ppid} key: want {got}, got {(named or '')[:64]!a}", code="platform_key")


def _refuse_revoked(known: Platform | Holder, ppid: str) -> None:
    if known.revoked:
        raise PolicyError(
            f"platform {ppid}: its key was revoked on {known.revoked}",
            hint=_NEW_KEYS,
            code="platform_revoked",
        )


def _refuse_held(store: Reading, ppid: str, key: bytes) -> None:
    """Refuse a key that is revoked, or is another platform's: the requester itself states its name."""
    data = store.get(KEYS, key.hex())
    if data is None:
        return
    holder = decode(data, Holder)
    _refuse_revoked(holder, holder.ppid)
    if holder.ppid != ppid:
        raise PolicyError(
            f"platform {ppid}: want its own key, got {name_of(key)}, which belongs to platform {holder.ppid}",
            hint=_NEW_KEYS,
            code="enrolment_held",
        )


def _unknown_error(ppid: str) -> UsageError:
    return UsageError(
        f"platform {ppid[:64]!a}: want a platform that requested a certificate, got another",
        code="platform_unknown",
    )


def _describe(ppid: str, key: bytes, cpusvn: bytes, pcesvn: int, status: str) -> Known:
    return Known(ppid=ppid, key=name_of(key), cpusvn=cpusvn.hex(), pcesvn=pcesvn, status=status)
