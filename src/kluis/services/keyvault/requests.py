"""What clients send, as types. Unknown members are passed over; bounds are checked where they are used.

Spec: Azure Key Vault REST API, "KeyCreateParameters" and its siblings.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom the vault is to believe next; its members are read as the vault's own settings are."""

    authorities: list[Any]
    issuer: Any


class Attributes(msgspec.Struct, frozen=True):
    """What a client may say of a key; ``external_key`` names one in another's HSM, of which there is none."""

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
    """A key to be made."""

    kty: str | None = None
    key_size: int | None = None
    public_exponent: int | None = None
    crv: str | None = None
    key_ops: list[str] | None = None
    attributes: Attributes | None = None
    tags: dict[str, str] | None = None
    release_policy: Policy | None = None


class Import(msgspec.Struct, frozen=True):
    """A key that is brought. The body is read once more, for ``hsm`` in any case of letters."""

    key: dict[str, Any] | None = None
    hsm: bool | None = None
    attributes: Attributes | None = None
    tags: dict[str, str] | None = None
    release_policy: Policy | None = None

    def __repr__(self) -> str:
        return "Import()"


class Update(msgspec.Struct, frozen=True):
    """What is to change."""

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
    """A key that is to be released."""

    target: str | None = None
    nonce: str | None = None
    enc: str | None = None


class Backup(msgspec.Struct, frozen=True):
    """A blob, base64url."""

    value: str | None = None


class Random(msgspec.Struct, frozen=True):
    """How many bytes."""

    count: int | None = None


class Trigger(msgspec.Struct, frozen=True):
    """When: one of the two, an ISO 8601 duration."""

    after_create: str | None = msgspec.field(name="timeAfterCreate", default=None)
    before_expiry: str | None = msgspec.field(name="timeBeforeExpiry", default=None)


class Action(msgspec.Struct, frozen=True):
    """What."""

    type: str | None = None


class LifetimeAction(msgspec.Struct, frozen=True):
    """What is to be done when."""

    trigger: Trigger | None = None
    action: Action | None = None


class RotationAttributes(msgspec.Struct, frozen=True):
    """How long each new version lives, an ISO 8601 duration."""

    expiry: str | None = msgspec.field(name="expiryTime", default=None)


class RotationPolicy(msgspec.Struct, frozen=True):
    """A rotation policy."""

    actions: list[LifetimeAction] | None = msgspec.field(name="lifetimeActions", default=None)
    attributes: RotationAttributes | None = None
