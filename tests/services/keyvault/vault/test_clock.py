"""A host that sets its clock ahead ends no deleted key: a vault's time comes from another clock."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from kluis.services.keyvault.vault import clock as vault_clock
from kluis.services.keyvault.vault.clock import VaultClock, vault_time
from kluis.services.keyvault.vault.records import Deletion
from tests.services.keyvault.memory import MemoryStorage
from tests.services.keyvault.world import RESOURCE, World
from tests.services.web.issuer import NOW, FixedClock, TokenMaker

DAY = timedelta(days=1)
AT = int(NOW.timestamp())
MAKER = TokenMaker(audience=RESOURCE)


class HostsClock(FixedClock):
    """A clock that its host sets, and a monotonic one that it does not."""

    def __init__(self, at: datetime = NOW) -> None:
        super().__init__(at)
        self.run = 0.0

    def pace(self) -> float:
        return self.run

    def goes(self, by: timedelta) -> None:
        """Time passes, and both say so."""
        self.at += by
        self.run += by.total_seconds()


def _deleted(clock: HostsClock, storage: MemoryStorage | None = None) -> World:
    world = World(storage=storage or MemoryStorage(), clock=clock, recoverable_days=7, maker=MAKER)
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    world.ok("DELETE", "/keys/k")
    return world


def _knock(world: World, by: timedelta, steps: int = 1) -> None:
    assert isinstance(world.clock, HostsClock)
    for _ in range(steps):
        world.clock.goes(by / steps)
        world.service.tend()


def _is_there(world: World) -> bool:
    world.service.tend()
    listed = bool(world.ok("GET", "/deletedkeys")["value"])
    found = world.send("GET", "/deletedkeys/k").status_code == 200
    assert listed is found
    return found


@pytest.mark.parametrize("ahead", [7, 90, 3650])
def test_a_clock_that_is_set_ahead(ahead: int) -> None:
    """What is deleted can be recovered all the same, its name stays taken, and its material is there."""
    world = _deleted(HostsClock())
    world.clock.at += ahead * DAY
    for _ in range(3):
        assert _is_there(world)
    assert world.refused("POST", "/keys/k/create", {"kty": "EC"})[3] == "ObjectIsDeletedButRecoverable"
    world.clock.at = NOW + timedelta(hours=1)
    world.ok("POST", "/deletedkeys/k/recover")
    assert world.ok("GET", "/keys/k")["key"]["kid"]


def test_days_that_pass() -> None:
    """A clock that is right loses nothing: seven days after, and not a second before, the key is gone."""
    world = _deleted(HostsClock())
    _knock(world, 7 * DAY - timedelta(seconds=1), steps=20)
    assert _is_there(world)
    world.clock.goes(timedelta(seconds=1))
    assert not _is_there(world)


def test_a_stop_is_made_up_for() -> None:
    """What no enclave saw is believed at ten times the pace: a week's stop, in 16.8 hours."""
    storage = MemoryStorage()
    _deleted(HostsClock(), storage)
    again = World(storage=storage, clock=HostsClock(NOW + 7 * DAY), recoverable_days=7, maker=MAKER)
    _knock(again, timedelta(hours=18), steps=18)
    assert not _is_there(again)
    later = _deleted(HostsClock())
    later.clock.at += 7 * DAY
    _knock(later, timedelta(hours=16), steps=16)
    assert _is_there(later)


def test_starting_anew_is_no_faster() -> None:
    """Each start counts from what is kept: an enclave that is started for each knock sees no time pass."""
    storage = MemoryStorage()
    _deleted(HostsClock(), storage)
    for hours in range(50):
        clock = HostsClock(NOW + 100 * DAY)
        clock.run = hours * 3600.0
        again = World(storage=storage, clock=clock, recoverable_days=7, maker=MAKER)
        assert _is_there(again)


def test_a_clock_that_was_ahead_before() -> None:
    """Time from a clock that was ahead does not count for a key deleted after it was turned back."""
    world = _deleted(HostsClock())
    world.clock.at += 90 * DAY
    _knock(world, DAY, steps=24)
    world.clock.at = NOW + DAY
    world.ok("POST", "/keys/other/create", {"kty": "EC"})
    assert vault_time(world.storage) > AT + 6 * 86400
    world.ok("DELETE", "/keys/other")
    assert vault_time(world.storage) == AT + 86400
    world.clock.at += 90 * DAY
    world.service.tend()
    assert world.ok("GET", "/deletedkeys/other")["recoveryId"]


def test_a_clock_that_is_set_back_is_followed() -> None:
    """The vault's own time is never later than the host's."""
    world = _deleted(HostsClock())
    world.clock.at += 90 * DAY
    _knock(world, timedelta(hours=2))
    assert vault_time(world.storage) == AT + 20 * 3600
    world.clock.at = NOW + timedelta(hours=2)
    world.service.tend()
    assert vault_time(world.storage) == AT + 2 * 3600


def test_a_vault_of_before() -> None:
    """One that kept no time begins with its last deletion's."""
    storage = MemoryStorage()
    world = _deleted(HostsClock(), storage)
    storage.update(lambda writing: writing.delete(vault_clock.TABLE, vault_clock.KEY))
    world.clock.at += 90 * DAY
    assert _is_there(world)
    assert AT <= vault_time(storage) < AT + 60


def test_instances_do_not_add_up() -> None:
    """Two instances that count side by side come no further than one; each counts from the other's word."""
    storage, clock = MemoryStorage(), HostsClock()
    one, other = VaultClock(storage, clock), VaultClock(storage, clock)
    deletions = [Deletion(AT, AT + 90 * 86400)]
    storage.update(lambda writing: one.hold(writing, AT, ()))
    one.look(), other.look()
    far = AT + 1000 * 86400
    for hour in range(1, 25):
        clock.run = hour * 3600.0
        one.advance(far, deletions)
        other.advance(far, deletions)
        assert vault_time(storage) <= AT + vault_clock.PACE * hour * 3600
    assert vault_time(storage) == AT + vault_clock.PACE * 24 * 3600


def test_nothing_is_kept_where_no_key_waits() -> None:
    """A vault without deleted keys writes no time, and a first deletion begins from the host's."""
    storage, clock = MemoryStorage(), HostsClock()
    own = VaultClock(storage, clock)
    own.advance(AT, [])
    assert vault_time(storage) == 0
    storage.update(lambda writing: own.hold(writing, AT, ()))
    storage.update(lambda writing: own.hold(writing, AT + 900, ()))
    assert vault_time(storage) == AT + 900
    storage.update(lambda writing: own.hold(writing, AT + 990, [Deletion(AT, AT + 86400)]))
    assert vault_time(storage) == AT + 900
