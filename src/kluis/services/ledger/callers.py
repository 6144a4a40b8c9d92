"""Identify a ledger's caller by a client certificate or a registered issuer's token, and determine its
permissions.

Azure Confidential Ledger identifies users by an object id, or by the fingerprint of a certificate, and gives
them roles; CCF identifies members and users by certificates that are in its tables. A request is of one
dialect.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from kluis.errors import AuthenticityError, FreshnessError, KluisError
from kluis.formats.ccf import tables
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.frozen import frozen
from kluis.ledger.certificates import NOT_READABLE
from kluis.ledger.store import Transaction
from kluis.services.clock import Clock
from kluis.services.ledger import tokens
from kluis.services.ledger.tables import ROLES, USERS
from kluis.services.web import Caller, Gate, Operation, Refusal

AUDIENCE: Final = "https://confidential-ledger.azure.com"
CCF: Final = "ccf:"
"""How the access of CCF's dialect begins; kinds of callers follow, with commas."""
ANY: Final = f"{CCF}any"
"""The access of an operation of CCF's dialect: anyone whose identity is known to the ledger."""
MOST_SUBJECT: Final = 256
HEX32: Final = re.compile(r"[0-9a-fA-F]{64}")
PREFIX: Final = "Microsoft.ConfidentialLedger/ledger"
READ: Final = frozenset({"/content/read", "/governance/read"})
WRITE: Final = frozenset({"/content/write"})
ADMINISTER: Final = frozenset({"/users/read", "/users/write", "/roles/read", "/roles/write"})
BUILT_IN: Final[Mapping[str, frozenset[str]]] = {
    "Reader": READ,
    "Contributor": READ | WRITE,
    "Administrator": READ | WRITE | ADMINISTER,
}


class User(msgspec.Struct, frozen=True):
    """A user of Azure's dialect, as it is kept."""

    assignedRoles: tuple[str, ...]  # noqa: N815 - the API's own word


class Role(msgspec.Struct, frozen=True):
    """A role that users defined, as Azure's clients write it."""

    roleName: str  # noqa: N815 - the API's own word
    roleActions: tuple[str, ...]  # noqa: N815 - the API's own word


class Roles(msgspec.Struct, frozen=True):
    """Several."""

    roles: tuple[Role, ...]


@frozen
class LedgerCaller(Caller):
    """One whose identity was verified.

    Attributes:
        kinds: ``jwt``, ``certificate``, ``member`` and ``user``, those that are so.
        certificate_id: SHA-256 of the certificate, hexadecimal: a member's or user's id; empty for a token.
    """

    kinds: frozenset[str] = frozenset()
    certificate_id: str = ""


class LedgerGate(Gate):
    """Who may ask a ledger for what.

    Args:
        begin: begins a transaction over the present state.
        clock: the host's word for the time.
        audiences: that tokens must name in Azure's dialect.
    """

    def __init__(self, begin: Callable[[], Transaction], clock: Clock, audiences: Sequence[str] = ()) -> None:
        super().__init__(None, {}, clock)
        self._begin = begin
        self._time = clock
        self._audiences = frozenset(one.removesuffix("/") for one in (AUDIENCE, *audiences))

    def admit_client(
        self, operation: Operation, target: str, headers: Mapping[str, str], certificates: Sequence[str]
    ) -> Caller | None:
        """Admit a known caller whose roles allow the operation.

        Raises:
            Refusal: 401, the caller is unknown; 403, it is not allowed.
        """
        if operation.access is None:
            return None
        state = self._begin()
        azure = not operation.access.startswith(CCF)
        caller = self.recognise(state, headers, certificates, self._audiences if azure else None)
        if azure and not any(operation.access in actions(state, role) for role in caller.roles):
            path = target[:200]
            raise Refusal(403, "NotAllowed", f"Not allowed to call {operation.method} {path}")
        wanted = set() if azure else set(operation.access.removeprefix(CCF).split(","))
        if wanted and "any" not in wanted and not wanted & caller.kinds:
            kinds = " or ".join(sorted(wanted))
            raise Refusal(
                401, "InvalidAuthenticationInfo", f"Invalid authentication credentials. Want {kinds}."
            )
        return caller

    def version(self) -> int:
        """As :meth:`Gate.version`: users, roles, members and keys of tokens are in the ledger's tables."""
        return self._begin().began

    def recognise(
        self,
        state: Transaction,
        headers: Mapping[str, str],
        certificates: Sequence[str],
        audiences: frozenset[str] | None,
    ) -> LedgerCaller:
        """Identify the caller.

        Raises:
            Refusal: 401, neither a valid token nor a valid certificate.
        """
        now, refusals = self._time.now(), []
        if "authorization" in headers:
            try:
                claims = tokens.check(
                    headers["authorization"],
                    lambda kid: state.get(tables.JWT_KEYS, kid.encode()),
                    now,
                    audiences,
                )
                subject = _subject(claims)
                kinds = frozenset({"jwt"})
                return LedgerCaller(subject, roles_of(state, subject), claims, frozenset(), kinds)
            except KluisError as error:
                refusals.append(("jwt", error.message))
        elif certificates:
            try:
                return self._by_certificate(state, certificates[0], now)
            except KluisError as error:
                refusals.append(("user_cert", error.message))
        else:
            refusals += [("user_cert", "No caller certificate"), ("jwt", "Authorization header is missing")]
        code = "InvalidAuthenticationInfo"
        raise Refusal(
            401,
            code,
            f"Invalid authentication credentials. {refusals[0][1]}",
            details=[{"auth_policy": policy, "code": code, "message": why} for policy, why in refusals],
            headers={"WWW-Authenticate": 'Bearer realm="JWT bearer token access", error="invalid_token"'},
        )

    def _by_certificate(self, state: Transaction, pem: str, now: datetime) -> LedgerCaller:
        shown = _read(pem)
        if not shown.begin <= now:
            raise FreshnessError(f"certificate: not valid before {shown.begin:%Y-%m-%d %H:%M} UTC")
        if now > shown.end:
            raise FreshnessError(f"certificate: expired on {shown.end:%Y-%m-%d %H:%M} UTC")
        kinds = {"certificate"}
        if state.has(tables.MEMBER_CERTIFICATES, shown.id.encode()):
            kinds.add("member")
        if state.has(tables.USER_CERTIFICATES, shown.id.encode()):
            kinds.add("user")
        roles = roles_of(state, shown.fingerprint)
        return LedgerCaller(shown.fingerprint, roles, {}, frozenset(), frozenset(kinds), shown.id)


def require_role(state: Transaction, caller: Caller | None, action: str) -> None:
    """Check a caller's roles again, in the transaction that writes: one before it may have changed them.

    Raises:
        Refusal: 403, its roles do not allow the action any more.
    """
    if caller is None or not any(action in actions(state, role) for role in roles_of(state, caller.subject)):
        raise Refusal(403, "NotAllowed", "Not allowed: the roles of the caller have changed")


def require_kind(state: Transaction, caller: Caller | None, kinds: Collection[str]) -> None:
    """Check in the transaction that writes that a caller is still one of these kinds.

    Raises:
        Refusal: 401, it was a member or a user when it was admitted, and is not any more.
    """
    if "none" in kinds:
        return
    kinds_met = caller.kinds & frozenset(kinds) if isinstance(caller, LedgerCaller) else frozenset()
    for kind, table in (("member", tables.MEMBER_CERTIFICATES), ("user", tables.USER_CERTIFICATES)):
        if isinstance(caller, LedgerCaller) and not state.has(table, caller.certificate_id.encode()):
            kinds_met -= {kind}
    if not kinds_met:
        raise Refusal(401, "InvalidAuthenticationInfo", "The caller is not known to the ledger any more.")


def roles_of(state: Transaction, user: str) -> frozenset[str]:
    """The roles of a user, by the id that the ledger keeps."""
    row = state.get(USERS, canonical_id(user).encode())
    return frozenset() if row is None else _assigned_roles(row)


@functools.lru_cache(maxsize=256)
def _assigned_roles(user: bytes) -> frozenset[str]:
    """Cached: each request reads it twice, and the value changes only when an administrator changes it."""
    try:
        return frozenset(msgspec.json.decode(user, type=User).assignedRoles)
    except UNREADABLE:
        return frozenset()


def actions(state: Transaction, role: str) -> frozenset[str]:
    """What a role allows."""
    if role in BUILT_IN:
        return BUILT_IN[role]
    row = state.get(ROLES, role.encode())
    if row is None:
        return frozenset()
    try:
        listed = msgspec.json.decode(row, type=Role).roleActions
    except UNREADABLE:
        return frozenset()
    return frozenset(one.removeprefix(PREFIX) for one in listed)


def canonical_id(user: str) -> str:
    """A user's id as it is kept: a fingerprint in upper case with colons, an object id in lower case."""
    bare = user.replace(":", "")
    if HEX32.fullmatch(bare):
        upper = bare.upper()
        return ":".join(upper[at : at + 2] for at in range(0, 64, 2))
    return user.lower()


def _subject(claims: Mapping[str, Any]) -> str:
    """The user whom a token names; empty if it names none. A certificate's user shows that, and no token.

    Raises:
        AuthenticityError: it is no text of this size, or the fingerprint of a certificate.
    """
    subject = claims.get("oid") or claims.get("sub") or ""
    if not isinstance(subject, str) or len(subject) > MOST_SUBJECT:
        raise AuthenticityError(
            f"bearer token: want an oid or a sub of at most {MOST_SUBJECT} characters", code="bearer"
        )
    if canonical_id(subject) != subject.lower():
        raise AuthenticityError("bearer token: names a certificate's fingerprint as its user", code="bearer")
    return subject


@frozen
class _Shown:
    id: str
    fingerprint: str
    begin: datetime
    end: datetime


@functools.lru_cache(256)
def _read(pem: str) -> _Shown:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        key: Any = certificate.public_key()
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except NOT_READABLE:
        raise AuthenticityError("certificate: cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
        key.curve, ec.SECP256R1 | ec.SECP384R1
    ):
        raise AuthenticityError("certificate: want a key on P-256 or P-384, got another")
    digest = certificate.fingerprint(hashes.SHA256()).hex()
    return _Shown(digest, canonical_id(digest), begin, end)
