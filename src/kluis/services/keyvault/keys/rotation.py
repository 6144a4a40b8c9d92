"""Check and store rotation policies, with their defaults; :mod:`upkeep` carries them out.

A policy has at most one action of each kind. Without a notification it has the usual one, 30 days before the
expiry; on Azure no policy can remove it. A new version of a key has the same policy, and gets its expiry from
it.

Spec: Azure Key Vault, "Configure cryptographic key auto-rotation"; REST API, "Update Key Rotation Policy".
"""

from __future__ import annotations

from typing import Final

import msgspec

from kluis.enclave.store.model import Writing
from kluis.services.keyvault.faults import BadParameter
from kluis.services.keyvault.names import check_name
from kluis.services.keyvault.requests import LifetimeAction as Asked
from kluis.services.keyvault.requests import RotationPolicy
from kluis.services.keyvault.vault import audit, keys
from kluis.services.keyvault.vault.records import KeyRecord, LifetimeAction, RotationRule
from kluis.services.keyvault.vault.schedule import NEAR_EXPIRY, SECONDS_A_DAY, seconds
from kluis.services.keyvault.vault.vault import Vault

_ACTIONS: Final = {"rotate": "Rotate", "notify": "Notify"}
LEAST_DAYS, LEAST_EXPIRY_DAYS, MOST_ACTIONS = 7, 28, 8


def set_policy(vault: Vault, name: str, request: RotationPolicy, now: int, subject: str) -> KeyRecord:
    """Store a rotation policy.

    Raises:
        KeyNotFound: the key does not exist.
        BadParameter: not a policy.
    """
    check_name(name)
    expiry = None if request.attributes is None else request.attributes.expiry
    if expiry is not None and seconds(expiry, "attributes.expiryTime") < LEAST_EXPIRY_DAYS * SECONDS_A_DAY:
        raise BadParameter(f"attributes.expiryTime: want at least P{LEAST_EXPIRY_DAYS}D, got {expiry}")
    actions = _actions(request, expiry)

    def work(writing: Writing) -> KeyRecord:
        record = keys.demand(writing, name, now)
        created = now if record.rotation is None else record.rotation.created
        updated = msgspec.structs.replace(record, rotation=RotationRule(actions, expiry, created, now))
        event = audit.Event("rotation-policy", record.name, record.current.id, subject, now)
        audit.append(writing, event)
        keys.keep(writing, updated)
        return updated

    return vault.storage.update(work)


def _actions(request: RotationPolicy, expiry: str | None) -> tuple[LifetimeAction, ...]:
    listed = request.actions or []
    if len(listed) > MOST_ACTIONS:
        raise BadParameter(f"lifetimeActions: want at most {MOST_ACTIONS}, got {len(listed)}")
    made = [_action(each, expiry) for each in listed]
    for kind in _ACTIONS.values():
        if sum(each.action == kind for each in made) > 1:
            raise BadParameter(f"lifetimeActions: want one {kind}, got more")
    if all(each.action != NEAR_EXPIRY.action for each in made):
        made.append(NEAR_EXPIRY)
    return tuple(made)


def _action(action: Asked, expiry: str | None) -> LifetimeAction:
    what = "lifetimeActions.trigger"
    kind = _ACTIONS.get((action.action.type if action.action and action.action.type else "").lower())
    if kind is None or action.trigger is None:
        raise BadParameter("lifetimeActions: want a trigger and the action Rotate or Notify, got another")
    # Azure's own samples write the other member as "".
    after, before = action.trigger.after_create or None, action.trigger.before_expiry or None
    if (after is None) is (before is None):
        raise BadParameter(f"{what}: want timeAfterCreate or timeBeforeExpiry, got another")
    wait, least = seconds(after or before or "", what), LEAST_DAYS * SECONDS_A_DAY
    if wait < least:
        raise BadParameter(f"{what}: want at least P{LEAST_DAYS}D, got {after or before}")
    if kind == "Notify":
        if before is None:
            raise BadParameter(f"{what}: want timeBeforeExpiry for Notify, got timeAfterCreate")
    elif expiry is None:
        if before is not None:
            raise BadParameter(f"{what}: want attributes.expiryTime for timeBeforeExpiry, got none")
    elif wait > seconds(expiry, "attributes.expiryTime") - least:
        # Otherwise each new version would be due at once, or only when it is no longer usable.
        raise BadParameter(
            f"{what}: want at least P{LEAST_DAYS}D less than attributes.expiryTime {expiry}, got "
            f"{after or before}"
        )
    return LifetimeAction(kind, after, before)
