"""When something is due: of the latest version, by the policy or by what stands for one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kluis.services.keyvault.faults import BadParameter
from kluis.services.keyvault.vault import schedule
from kluis.services.keyvault.vault.records import (
    Deletion,
    KeyRecord,
    KeyVersion,
    LifetimeAction,
    RotationRule,
)

DAY = 86_400
CREATED = 1_000_000_000


def record(*actions: LifetimeAction, **more: Any) -> KeyRecord:
    """A key with these actions; without one it has no policy."""
    version = KeyVersion(
        id="0" * 32, kty="EC", secret=b"", public={}, size=256, key_ops=(), created=CREATED, updated=CREATED,
        **more,
    )  # fmt: skip
    rule = RotationRule(actions, None, CREATED, CREATED) if actions else None
    return KeyRecord(name="k", current=version, rotation=rule)


AFTER = LifetimeAction("Rotate", after_create="P90D")
BEFORE = LifetimeAction("Rotate", before_expiry="P10D")
NOTIFY = LifetimeAction("Notify", before_expiry="P20D")


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("P1Y2M3D", (365 + 60 + 3) * DAY), ("P90D", 90 * DAY), ("PT48H", 2 * DAY), ("PT1M", 60),
        ("P1M", 30 * DAY), ("P28DT12H30M1S", 28 * DAY + 45_001), ("P0D", 0),
    ],
)  # fmt: skip
def test_durations(duration: str, seconds: int) -> None:
    """A year has 365 days, a month 30; the time of day may follow."""
    assert schedule.seconds(duration, "it") == seconds


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1", "P1DT", "1D", "p1d", "P1W", "P-1D", "P1.5D", "P1D1Y", " P1D", "P١D"]
)
def test_what_is_no_duration(text: str) -> None:
    """Any other text is refused."""
    with pytest.raises(BadParameter, match="want an ISO 8601 duration"):
        schedule.seconds(text, "it")


def test_rotation_after_creation() -> None:
    """From the version's own creation on, whenever the policy came."""
    assert schedule.rotate_at(record(AFTER)) == CREATED + 90 * DAY


def test_rotation_before_expiry() -> None:
    """From the version's own expiry back; one that never expires is never due."""
    assert schedule.rotate_at(record(BEFORE, exp=CREATED + 50 * DAY)) == CREATED + 40 * DAY
    assert schedule.rotate_at(record(BEFORE)) is None


def test_notification() -> None:
    """Before the expiry, by default thirty days; after that, only another expiry is reported."""
    end = CREATED + 50 * DAY
    assert schedule.notify_at(record(exp=end)) == CREATED + 20 * DAY
    assert schedule.notify_at(record()) is None
    assert schedule.notify_at(record(AFTER, NOTIFY, exp=end)) == CREATED + 30 * DAY
    told = msgspec.structs.replace(record(exp=end), told=schedule.last_notice(record(exp=end)))
    assert schedule.notify_at(told) is None
    later = msgspec.structs.replace(told.current, exp=end + DAY)
    assert schedule.notify_at(msgspec.structs.replace(told, current=later)) == CREATED + 21 * DAY


def test_the_next_moment() -> None:
    """The earlier of the two."""
    assert schedule.next_at(record(BEFORE, NOTIFY, exp=CREATED + 50 * DAY)) == CREATED + 30 * DAY
    assert schedule.next_at(record(AFTER, NOTIFY)) == CREATED + 90 * DAY
    assert schedule.next_at(record()) is None


def test_the_end_of_a_deleted_key() -> None:
    """A deleted key is due for one thing: to be forgotten."""
    gone = msgspec.structs.replace(record(AFTER, NOTIFY), deleted=Deletion(CREATED, CREATED + DAY))
    assert schedule.next_at(gone) == CREATED + DAY


@pytest.mark.parametrize("moment", [schedule.rotate_at, schedule.notify_at, schedule.next_at])
def test_keys_that_are_left_alone(moment: Any) -> None:
    """A disabled or deleted key is due for nothing, but for the end of one that is deleted."""
    key = record(AFTER, NOTIFY, exp=CREATED + 50 * DAY)
    assert moment(key) is not None
    if moment is not schedule.next_at:
        assert moment(msgspec.structs.replace(key, deleted=Deletion(CREATED, CREATED + DAY))) is None
    off = msgspec.structs.replace(key.current, enabled=False)
    assert moment(msgspec.structs.replace(key, current=off)) is None
