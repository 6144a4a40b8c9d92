"""Compute when a key is due for rotation or for a notice, from sealed data.

The host states the time and calls occasionally; it does not determine the schedule. Times belong to the
latest version only. A disabled key has none, and a deleted one is due to be purged.

Spec: Azure Key Vault, "Configure cryptographic key auto-rotation"; ISO 8601, durations.
"""

from __future__ import annotations

import re
from typing import Final

from kluis.services.keyvault.faults import BadParameter
from kluis.services.keyvault.vault.records import KeyRecord, LifetimeAction, Told

SECONDS_A_DAY: Final = 86_400
# The default if a key's policy does not mention it: Azure reports every key that is about to expire.
NEAR_EXPIRY: Final = LifetimeAction("Notify", before_expiry="P30D")
_DURATION: Final = re.compile(
    r"P(?=\d|T\d)(?:(\d{1,3})Y)?(?:(\d{1,4})M)?(?:(\d{1,5})D)?"
    r"(?:T(?=\d)(?:(\d{1,6})H)?(?:(\d{1,7})M)?(?:(\d{1,9})S)?)?",
    re.ASCII,
)


def seconds(duration: str, what: str) -> int:
    """Seconds of a duration: a year has 365 days, a month 30.

    Raises:
        BadParameter: not ``PnYnMnDTnHnMnS``.
    """
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise BadParameter(f"{what}: want an ISO 8601 duration such as P90D or P2Y, got {duration[:32]!a}")
    years, months, days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return (365 * years + 30 * months + days) * SECONDS_A_DAY + 3600 * hours + 60 * minutes + rest


def rotate_at(record: KeyRecord) -> int | None:
    """When the latest version is due for rotation; None: never, under the current policy."""
    return _moment(record, "Rotate")


def notify_at(record: KeyRecord) -> int | None:
    """When to record that the latest version is about to expire; None: never, or it was recorded."""
    return None if record.told == last_notice(record) else _moment(record, "Notify")


def next_at(record: KeyRecord) -> int | None:
    """The next time at which something is due; None if there is none. For a deleted key, its purge time."""
    if record.deleted is not None:
        return record.deleted.purge_at
    return min((at for at in (rotate_at(record), notify_at(record)) if at is not None), default=None)


def last_notice(record: KeyRecord) -> Told:
    """The value to store once the expiry of the latest version was recorded; another expiry is recorded
    again.
    """
    return Told(record.current.id, record.current.exp)


def _moment(record: KeyRecord, action: str) -> int | None:
    version = record.current
    if record.deleted is not None or not version.enabled:
        return None
    for each in (NEAR_EXPIRY,) if record.rotation is None else record.rotation.actions:
        if each.action == action and each.after_create is not None:
            return version.created + seconds(each.after_create, "rotation policy")
        if each.action == action and each.before_expiry is not None and version.exp is not None:
            return version.exp - seconds(each.before_expiry, "rotation policy")
    return None
