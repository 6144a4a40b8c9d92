"""Keys in responses to clients: bundles, list items, and the times of a deletion.

Spec: Azure Key Vault REST API, "KeyBundle", "KeyItem", "DeletedKeyBundle".
"""

from __future__ import annotations

import re
from typing import Any, Final

from kluis.formats.encoding import b64
from kluis.services.keyvault.crypto.material import family
from kluis.services.keyvault.names import identifier
from kluis.services.keyvault.vault.records import KeyRecord, KeyVersion, LifetimeAction, ReleaseRule
from kluis.services.keyvault.vault.schedule import NEAR_EXPIRY
from kluis.services.keyvault.vault.vault import Rules

# Azure's term for a key that is not in an HSM's hardware, whatever its type.
NO_HSM: Final = "0"
FIRST_SIZE: Final = "2026-01-01-preview"
_DATED: Final = re.compile(r"\d{4}-", re.ASCII)
_BEFORE_PLATFORM: Final = re.compile(r"2016-10-01|7\.[0-4](-preview.*)?")


def bundle(url: str, record: KeyRecord, version: KeyVersion, rules: Rules, api: str) -> dict[str, Any]:
    """A complete key: its public half, attributes, tags and release policy, for one version of the API."""
    made: dict[str, Any] = {
        "key": {
            "kid": identifier(url, record.name, version.id),
            "kty": version.kty,
            "key_ops": list(version.key_ops),
            **version.public,
        },
        "attributes": attributes(version, rules, api),
    }
    if version.tags:
        made["tags"] = version.tags
    if record.release is not None and version.exportable:
        made["release_policy"] = release_policy(record.release)
    return made | _deletion(url, record)


def item(
    url: str, record: KeyRecord, version: KeyVersion, rules: Rules, api: str, *, versioned: bool
) -> dict[str, Any]:
    """A key in a list."""
    made: dict[str, Any] = {
        "kid": identifier(url, record.name, version.id if versioned else ""),
        "attributes": attributes(version, rules, api),
    }
    if version.tags:
        made["tags"] = version.tags
    return made | _deletion(url, record)


def attributes(version: KeyVersion, rules: Rules, api: str) -> dict[str, Any]:
    """A version's attributes.

    ``hsmPlatform`` was added in version 7.5 of the API, and ``key_size``, for keys without a public half, in
    2026-01-01-preview.
    """
    made: dict[str, Any] = {
        "enabled": version.enabled,
        "created": version.created,
        "updated": version.updated,
        "recoveryLevel": rules.recovery_level,
        "recoverableDays": rules.recoverable_days,
        "exportable": version.exportable,
    }
    if version.nbf is not None:
        made["nbf"] = version.nbf
    if version.exp is not None:
        made["exp"] = version.exp
    if not _BEFORE_PLATFORM.fullmatch(api):
        made["hsmPlatform"] = NO_HSM
    if _DATED.match(api) and api >= FIRST_SIZE and family(version.kty) == "oct":
        made["key_size"] = version.size
    return made


def release_policy(rule: ReleaseRule) -> dict[str, Any]:
    """A release policy, with its document unchanged."""
    return {"contentType": rule.content_type, "data": b64.encode_url(rule.data), "immutable": rule.immutable}


def rotation_policy(url: str, record: KeyRecord) -> dict[str, Any]:
    """A rotation policy, or the default if none is set."""
    rule = record.rotation
    identity = f"{identifier(url, record.name)}/rotationpolicy"
    if rule is None:
        return {"id": identity, "lifetimeActions": _actions((NEAR_EXPIRY,)), "attributes": {}}
    return {"id": identity, "lifetimeActions": _actions(rule.actions), "attributes": {
        "expiryTime": rule.expiry, "created": rule.created, "updated": rule.updated,
    }}  # fmt: skip


def _actions(several: tuple[LifetimeAction, ...]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for each in several:
        trigger = {"timeAfterCreate": each.after_create, "timeBeforeExpiry": each.before_expiry}
        members = {name: value for name, value in trigger.items() if value is not None}
        made.append({"trigger": members, "action": {"type": each.action}})
    return made


def _deletion(url: str, record: KeyRecord) -> dict[str, Any]:
    if record.deleted is None:
        return {}
    return {
        "recoveryId": f"{url}/deletedkeys/{record.name}",
        "deletedDate": record.deleted.at,
        "scheduledPurgeDate": record.deleted.purge_at,
    }
