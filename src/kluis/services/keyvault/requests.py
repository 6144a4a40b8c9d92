"""Types of clients' requests. Unknown members are ignored; limits are checked where members are used.

Spec: Azure Key Vault REST API, "KeyCreateParameters" and its siblings.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The set that the vault is to trust next; its members are decoded like the vault's own settings."""

    authorities: list[Any]
    issuer: Any


class Attributes(msgspec.Struct, frozen=True):
    """The attributes that a client can set; ``external_key`` names a key in an external HSM: refused."""

    enabled: bool | None = None
    nbf: int | None = None
    exp: int | None = None
    exportable: bool | None = None
    external_key: Any = None


class Policy(msgspec.Struct, frozen=True):
    """A release policy: ``data`` is base64url of the document."""

    data: str | None = None
    content_type: str | None = msgspec.field(name="contentType", default=None)
    immutable: bool | None = None


class Create(msgspec.Struct, frozen=True):
    """A key to create."""

    kty: str | None = None
    key_size: int | None = None
    public_exponent: int | None = None
    crv: str | None = None
    key_ops: list[str] | None = None
    attributes: Attributes | None = None
    tags: dict[str, str] | None = None
    release_policy: Policy | None = None


class Import(msgspec.Struct, frozen=True):
    """A key to import. The body is read once more, for ``hsm`` in any case."""

    key: dict[str, Any] | None = None
    hsm: bool | None = None
    attributes: Attributes | None = None
    tags: dict[str, str] | None = None
    release_policy: Policy | None = None

    def __repr__(self) -> str:
        return "Import()"


class Update(msgspec.Struct, frozen=True):
    """The members to change."""

    key_ops: list[str] | None = None
    attributes: Attributes | None = None
    tags: dict[str, str] | None = None
    release_policy: Policy | None = None


class Operate(msgspec.Struct, frozen=True):
    """One cryptographic operation."""

    alg: str | None = None
    value: str | None = None
    digest: str | None = None
    iv: str | None = None
    aad: str | None = None
    tag: str | None = None

    def __repr__(self) -> str:
        return f"Operate({self.alg!a})"


class Release(msgspec.Struct, frozen=True):
    """A key to release."""

    target: str | None = None
    nonce: str | None = None
    enc: str | None = None


class Backup(msgspec.Struct, frozen=True):
    """A blob, base64url."""

    value: str | None = None


class Random(msgspec.Struct, frozen=True):
    """The number of bytes."""

    count: int | None = None


class Trigger(msgspec.Struct, frozen=True):
    """The time: one of the two, an ISO 8601 duration."""

    after_create: str | None = msgspec.field(name="timeAfterCreate", default=None)
    before_expiry: str | None = msgspec.field(name="timeBeforeExpiry", default=None)


class Action(msgspec.Struct, frozen=True):
    """The action."""

    type: str | None = None


class LifetimeAction(msgspec.Struct, frozen=True):
    """An action and its time."""

    trigger: Trigger | None = None
    action: Action | None = None


class RotationAttributes(msgspec.Struct, frozen=True):
    """The lifetime of each new version, an ISO 8601 duration."""

    expiry: str | None = msgspec.field(name="expiryTime", default=None)


class RotationPolicy(msgspec.Struct, frozen=True):
    """A rotation policy."""

    actions: list[LifetimeAction] | None = msgspec.field(name="lifetimeActions", default=None)
    attributes: RotationAttributes | None = None
