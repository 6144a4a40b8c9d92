"""Rotation policies: kept, checked and shown. A key is rotated when a client asks for it.

No enclave wakes by itself, and the host's clock is no one's to trust: who wants keys rotated by the calendar
calls ``rotate`` by it. The policy's expiry gives each new version its own.

Spec: Azure Key Vault, "Configure cryptographic key auto-rotation"; ISO 8601 durations of years, months, days.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from kluis.enclave.store.model import Writing
from kluis.services.keyvault import shelf
from kluis.services.keyvault.faults import BadParameter
from kluis.services.keyvault.names import check_name
from kluis.services.keyvault.records import KeyRecord, LifetimeAction, RotationRule
from kluis.services.keyvault.requests import RotationPolicy
from kluis.services.keyvault.vault import SECONDS_A_DAY, Vault

__all__ = ["seconds", "set_policy"]

_DURATION: Final = re.compile(r"P(?=\d)(?:(\d{1,3})Y)?(?:(\d{1,4})M)?(?:(\d{1,5})D)?", re.ASCII)
_ACTIONS: Final = {"rotate": "Rotate", "notify": "Notify"}
LEAST_DAYS, LEAST_EXPIRY_DAYS, MOST_ACTIONS = 7, 28, 8


def seconds(duration: str, what: str) -> int:
    """Seconds of a duration: a year has 365 days, a month 30.

    Raises:
        BadParameter: not ``PnYnMnD``.
    """
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise BadParameter(f"{what}: want an ISO 8601 duration such as P90D or P2Y, got {duration[:32]!a}")
    years, months, days = (int(part or 0) for part in found.groups())
    return (365 * years + 30 * months + days) * SECONDS_A_DAY


def set_policy(vault: Vault, name: str, asked: RotationPolicy, now: int) -> KeyRecord:
    """Keep a rotation policy.

    Raises:
        KeyNotFound: there is no such key.
        BadParameter: not a policy.
    """
    check_name(name)
    actions = _actions(asked)
    expiry = None if asked.attributes is None else asked.attributes.expiry
    if expiry is not None and seconds(expiry, "attributes.expiryTime") < LEAST_EXPIRY_DAYS * SECONDS_A_DAY:
        raise BadParameter(f"attributes.expiryTime: want at least P{LEAST_EXPIRY_DAYS}D, got {expiry}")

    def work(writing: Writing) -> KeyRecord:
        record = shelf.demand(writing, name, now)
        created = now if record.rotation is None else record.rotation.created
        kept = msgspec.structs.replace(record, rotation=RotationRule(actions, expiry, created, now))
        shelf.keep(writing, kept)
        return kept

    return vault.storage.update(work)


def _actions(asked: RotationPolicy) -> tuple[LifetimeAction, ...]:
    listed = asked.actions or []
    if len(listed) > MOST_ACTIONS:
        raise BadParameter(f"lifetimeActions: want at most {MOST_ACTIONS}, got {len(listed)}")
    made = []
    for each in listed:
        kind = _ACTIONS.get((each.action.type if each.action and each.action.type else "").lower())
        if kind is None or each.trigger is None:
            raise BadParameter("lifetimeActions: want a trigger and the action Rotate or Notify, got another")
        after, before = each.trigger.after_create, each.trigger.before_expiry
        if (after is None) is (before is None):
            raise BadParameter(
                "lifetimeActions.trigger: want timeAfterCreate or timeBeforeExpiry, got another"
            )
        if seconds(after or before or "", "lifetimeActions.trigger") < LEAST_DAYS * SECONDS_A_DAY:
            raise BadParameter(
                f"lifetimeActions.trigger: want at least P{LEAST_DAYS}D, got {after or before}"
            )
        made.append(LifetimeAction(kind, after, before))
    if sum(each.action == "Rotate" for each in made) > 1:
        raise BadParameter("lifetimeActions: want one Rotate, got more")
    return tuple(made)
