"""One vault: its store, its rules, and the identity that it got when it first started.

The identity is random and lies sealed in the store: backups open only where it is. Beside it is fixed who
may vouch for environments, and whose tokens say who may do what: an operator cannot start the same vault
with an authority or an issuer of their own, and help themselves to its keys.
"""

from __future__ import annotations

import dataclasses
import secrets
from typing import Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kluis.enclave.store.model import Storage, Writing
from kluis.errors import PolicyError, UsageError
from kluis.formats import jcs
from kluis.hashes import sha256
from kluis.services.keyvault.records import decode, encode

__all__ = ["Identity", "Rules", "Vault", "start"]

TABLE, KEY = "vault", "identity"
SECONDS_A_DAY: Final = 86_400


class Identity(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a vault is, for as long as its store lives.

    Attributes:
        secret: 32 bytes; backups and skip tokens are made under it.
        authorities: the pinned authorities in canonical JSON, as they were at the first start.
        issuer: the issuer of bearer tokens, likewise; or that it may change.
        created: seconds since 1970.
    """

    format: int = 1
    secret: bytes
    authorities: bytes
    issuer: bytes
    created: int

    def __repr__(self) -> str:
        return f"Identity({self.created})"


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """What an operator chooses.

    Attributes:
        recoverable_days: that a deleted key can be recovered, 7 to 90.
        purge_protection: whether nobody may purge a key before that.
        explain: whether a refused release says which claim failed.
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


@dataclasses.dataclass(frozen=True, slots=True)
class Vault:
    """A vault that has started.

    Attributes:
        storage: where all is kept.
        rules: the operator's.
        identity: its own.
    """

    storage: Storage
    rules: Rules
    identity: Identity

    @property
    def name(self) -> bytes:
        """Which vault this is, of all that there are: 32 bytes that nobody chooses."""
        return self.derived("name")

    def derived(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose."""
        kdf = HKDF(hashes.SHA256(), 32, salt=None, info=f"kluis key service {purpose}".encode())
        return kdf.derive(self.identity.secret)


def start(storage: Storage, rules: Rules, authorities: bytes, issuer: bytes, now: int) -> Vault:
    """Open a vault, or make one where there is none.

    Args:
        storage: of this service.
        rules: the operator's.
        authorities: the configured ones, in canonical JSON.
        issuer: the configured one, likewise.
        now: seconds since 1970.

    Raises:
        PolicyError: the vault was made with other authorities, or another issuer.
    """
    fresh = Identity(secret=secrets.token_bytes(32), authorities=authorities, issuer=issuer, created=now)

    def work(writing: Writing) -> Identity:
        value = writing.get(TABLE, KEY)
        if value is not None:
            return decode(Identity, value, "stored vault identity")
        writing.put(TABLE, KEY, encode(fresh))
        return fresh

    value = storage.get(TABLE, KEY)
    identity = storage.update(work) if value is None else decode(Identity, value, "stored vault identity")
    _same("authorities", identity.authorities, authorities)
    _same("issuer", identity.issuer, issuer)
    return Vault(storage, rules, identity)


def _same(what: str, want: bytes, got: bytes) -> None:
    if want != got:
        raise PolicyError(
            f"{what}: want {_shown(want)}, got {_shown(got)}",
            hint=f"a vault keeps the {what} of its first start; another vault has a store of its own",
        )


def _shown(pinned: bytes) -> str:
    """Each by kind, URL and the start of its digest: whole, with roots and keys, they are pages long."""
    value = msgspec.json.decode(pinned)
    several = value if isinstance(value, list) else [value]
    shown = [_line(each) if isinstance(each, dict) else str(each) for each in several]
    return "; ".join(shown[:8]) or "none"


def _line(one: dict[str, object]) -> str:
    digest = sha256(jcs.dumps(one)).hex()[:16]  # type: ignore[arg-type]  # it was JSON a moment ago
    return f"{one.get('type', 'issuer')} {one.get('url')} ({digest})"
