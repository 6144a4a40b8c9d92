"""One vault: its store, its rules, and the identity that it has from its first key on.

The identity is random and sealed in the store: backups open only there. The authorities that may attest
environments, and the issuer of callers' tokens, are fixed with it. So an operator cannot start the same vault
with another authority or issuer, and take its keys. A vault that never had a key has nothing to protect, and
is created again if it is started with others; a process that still runs with the old ones can no longer
write.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kluis.enclave.store.model import Reading, Storage, Writing
from kluis.errors import PolicyError, UnavailableError, UsageError
from kluis.frozen import frozen
from kluis.services.keyvault.vault.audit import TABLE as AUDITED
from kluis.services.keyvault.vault.keys import NAMES
from kluis.services.keyvault.vault.pinned_policies import PINNED
from kluis.services.keyvault.vault.records import decode, encode
from kluis.services.keyvault.vault.trust import Trust, meaning, meanings, settle

T = TypeVar("T")

TABLE, KEY = "vault", "identity"
MOST_SHOWN, MOST_TEXT = 4, 100
_STORED: Final = "stored vault identity"


class Identity(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The identity of a vault, for the lifetime of its store.

    Attributes:
        secret: 32 bytes; backups and skip tokens use it.
        authorities: the pinned authorities in canonical JSON.
        issuer: the issuer of bearer tokens in canonical JSON; or that it may change.
        created: seconds since 1970.
        earlier: the previously trusted sets, oldest first.
    """

    format: int = 1
    secret: bytes
    authorities: bytes
    issuer: bytes
    created: int
    earlier: tuple[Trust, ...] = ()

    def __repr__(self) -> str:
        return f"Identity({self.created})"

    @property
    def trust(self) -> Trust:
        """The set that it trusts now."""
        return Trust(self.authorities, self.issuer)


@frozen
class Rules:
    """An operator's settings.

    Attributes:
        recoverable_days: that a deleted key can be recovered, 7 to 90.
        purge_protection: whether purging is refused before that.
        explain: whether a refused release states which claim failed.
    """

    recoverable_days: int = 90
    purge_protection: bool = False
    explain: bool = True

    def __post_init__(self) -> None:
        if not 7 <= self.recoverable_days <= 90:
            raise UsageError(f"recoverable_days: want 7 to 90, got {self.recoverable_days}")

    @property
    def recovery_level(self) -> str:
        """As Azure names it."""
        level = "Recoverable" if self.recoverable_days == 90 else "CustomizedRecoverable"
        return level if self.purge_protection else f"{level}+Purgeable"


@frozen
class Vault:
    """A vault that has started.

    Attributes:
        storage: of the vault.
        rules: the operator's.
        identity: its own.
    """

    storage: Storage
    rules: Rules
    identity: Identity
    _meanings: tuple[Mapping[str, bytes], ...] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        sets = (*self.identity.earlier, self.identity.trust)
        object.__setattr__(self, "_meanings", tuple(map(meanings, sets)))

    @property
    def epoch(self) -> int:
        """The number of the currently trusted set, from 0: stored in release policies that are set now."""
        return len(self.identity.earlier)

    def means_the_same(self, issuer: str, epoch: int) -> bool:
        """Whether an authority's definition in a numbered set equals the current one.

        Args:
            issuer: its URL, in the form of ``origin``.
            epoch: of the release policy that names it.
        """
        then = meaning(self._meanings[epoch], issuer) if 0 <= epoch <= self.epoch else None
        return then is not None and then == meaning(self._meanings[-1], issuer)

    def ready(self) -> None:
        """Check that its store is available, and is still this vault's.

        Raises:
            UnavailableError: the store is unreachable; or another start has since created another vault in
                it.
        """
        stored = self.storage.get(TABLE, KEY)
        if stored is None or decode(Identity, stored, _STORED) != self.identity:
            raise _replaced_error()

    @property
    def name(self) -> bytes:
        """The vault's unique name: 32 bytes that nobody can choose."""
        return self.derive_key("name")

    def derive_key(self, purpose: str) -> bytes:
        """Derive a key of 32 bytes for one purpose."""
        kdf = HKDF(hashes.SHA256(), 32, salt=None, info=f"kluis key service {purpose}".encode())
        return kdf.derive(self.identity.secret)


def start(storage: Storage, rules: Rules, authorities: bytes, issuer: bytes, now: int) -> Vault:
    """Open a vault, or create it.

    Args:
        storage: of this service.
        rules: the operator's.
        authorities: the configured ones, in canonical JSON.
        issuer: the configured one, in canonical JSON.
        now: seconds since 1970.

    Raises:
        PolicyError: the vault has had keys under other authorities, or another issuer.
    """
    fresh = Identity(secret=secrets.token_bytes(32), authorities=authorities, issuer=issuer, created=now)

    def work(writing: Writing) -> bytes:
        stored = writing.get(TABLE, KEY)
        before = None if stored is None else decode(Identity, stored, _STORED)
        made = fresh
        if stored is not None and before is not None and (before.trust == fresh.trust or is_used(writing)):
            if before.trust == fresh.trust or not settle(writing, fresh.trust, now):
                return stored
            made = msgspec.structs.replace(
                before, authorities=authorities, issuer=issuer, earlier=(*before.earlier, before.trust)
            )
        writing.put(TABLE, KEY, encode(made))
        return encode(made)

    value = storage.get(TABLE, KEY)
    if value is None or decode(Identity, value, _STORED).trust != fresh.trust:
        value = storage.update(work)
    identity = decode(Identity, value, _STORED)
    _same("authorities", identity.authorities, authorities)
    _same("issuer", identity.issuer, issuer)
    return Vault(_Own(storage, value), rules, identity)


class _Own(Storage):
    """A vault's store, which a process can change only while it is still the vault that it started."""

    def __init__(self, storage: Storage, identity: bytes) -> None:
        self._storage = storage
        self._identity = identity
        self.rollback = storage.rollback

    def get(self, table: str, key: str) -> bytes | None:
        return self._storage.get(table, key)

    def scan(self, table: str, index: str = "", *, after: str = "") -> Iterator[tuple[str, bytes]]:
        return self._storage.scan(table, index, after=after)

    def update(self, work: Callable[[Writing], T], *meanwhile: Callable[[], None]) -> T:
        def work_if_unchanged(writing: Writing) -> T:
            if writing.get(TABLE, KEY) != self._identity:
                raise _replaced_error()
            return work(writing)

        return self._storage.update(work_if_unchanged, *meanwhile)


def is_used(reading: Reading) -> bool:
    """Whether the vault has, or had, a key."""
    return any(next(iter(reading.scan(table)), None) is not None for table in (NAMES, PINNED, AUDITED))


def _replaced_error() -> UnavailableError:
    return UnavailableError(
        "vault: was started with other authorities or another issuer since",
        hint="restart this instance",
        code="vault_replaced",
    )


def _same(what: str, want: bytes, got: bytes) -> None:
    if want != got:
        raise PolicyError(
            f"{what}: want {' and '.join(_differing(want, got))}",
            hint=f"a vault keeps its {what} until an administrator approves others: start it as before, and"
            " kluis vault approve; or start another vault (kluis serve --state)",
            code="vault_trust",
        )


def _differing(want: bytes, got: bytes) -> list[str]:
    """The places where two documents differ, for a message: not all, and shortened."""
    return [
        f"{at} {_show(one)}, got {_show(other)}" for at, one, other in differences(want, got)[:MOST_SHOWN]
    ]


def differences(before: bytes, after: bytes) -> list[tuple[str, str | None, str | None]]:
    """The places where two JSON documents differ, member by member, with both values as JSON."""
    one = _leaves(msgspec.json.decode(before), "")
    other = _leaves(msgspec.json.decode(after), "")
    return [
        (path or "it", one.get(path), other.get(path))
        for path in [*one, *(path for path in other if path not in one)]
        if one.get(path) != other.get(path)
    ]


def _leaves(value: Any, path: str) -> dict[str, str]:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        leaves: dict[str, str] = {}
        for name, each in items:
            leaves |= _leaves(each, f"{path}.{name}" if path else str(name))
        return leaves
    return {path: msgspec.json.encode(value).decode()}


def _show(text: str | None) -> str:
    if text is None:
        return "none"
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}.."
