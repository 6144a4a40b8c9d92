"""A vault's own tasks, by a clock that the test moves: on the sealed store, with several instances."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from kluis.enclave.store import SealedStore
from kluis.errors import UnavailableError
from kluis.serve.store import Database, keeping
from kluis.services.keyvault.vault import keys
from kluis.services.keyvault.vault.records import Due, encode
from tests.services.keyvault.keys.test_rotation import AT, DAY, rotate_after
from tests.services.keyvault.memory import MemoryStorage
from tests.services.keyvault.world import World, claims, opened, policy, sign
from tests.services.web.issuer import NOW, FixedClock

AUDITOR = ("Kluis Auditor",)
Open = Callable[[], SealedStore]


@pytest.fixture
def store(database_url: str) -> Iterator[Open]:
    """Opens one sealed store, again and again, as each instance does: in SQLite and in PostgreSQL."""
    key = os.urandom(32)
    with Database(database_url) as database:
        yield lambda: SealedStore(keeping.records(database, "test"), key)


def due(world: World, name: str = "k", after: str = "P90D", life: str | None = "P1Y") -> Any:
    """An exportable key with a policy that rotates it."""
    made = world.exportable(name)
    asked = {"lifetimeActions": [rotate_after(after)], "attributes": {"expiryTime": life}}
    world.ok("PUT", f"/keys/{name}/rotationpolicy", asked)
    return made


def at(world: World, days: float) -> None:
    """Move the clock so many days from where it began, and knock."""
    world.clock.at = NOW + timedelta(days=days)
    world.service.tend()


def count(world: World, name: str = "k") -> int:
    """How many versions a key has."""
    return len(world.ok("GET", f"/keys/{name}/versions")["value"])


def recorded(world: World, *operations: str) -> list[tuple[str, str, str, str]]:
    """Entries of the record: operation, key, version, subject."""
    told = world.ok("GET", "/audit", roles=AUDITOR)["value"]
    rows = [(each["operation"], each["key"], each["version"], each["subject"]) for each in told]
    return [row for row in rows if row[0] in operations]


def events(world: World) -> dict[str, float]:
    """What the metrics count."""
    lines = world.send("GET", "/metrics", roles=(), api=None).text.splitlines()
    found = [
        re.fullmatch(r'kluis_events_total{event="(\w+)",instance="\w{8}",service="keyvault"} (.*)', one)
        for one in lines
    ]
    return {one[1]: float(one[2]) for one in found if one is not None}


def test_a_key_is_rotated_when_its_time_has_come(store: Open) -> None:
    """Not before; then once, however often the host knocks; and again a period later, by the same policy."""
    world = World(storage=store())
    first = due(world)
    for days in (0, 1, 89.99):
        at(world, days)
    assert count(world) == 1
    for _ in range(3):
        at(world, 90)
    assert count(world) == 2
    second = world.ok("GET", "/keys/k/")
    assert second["key"]["kid"] != first["key"]["kid"]
    assert second["key"]["x"] != first["key"]["x"]
    assert second["attributes"]["exp"] == AT + (90 + 365) * DAY
    at(world, 179)
    assert count(world) == 2
    at(world, 181)
    assert count(world) == 3
    third = world.ok("GET", "/keys/k/")["key"]["kid"]
    assert recorded(world, "auto-rotate", "rotate") == [
        ("auto-rotate", "k", second["key"]["kid"][-32:], ""), ("auto-rotate", "k", third[-32:], ""),
    ]  # fmt: skip


def test_what_a_new_version_has(store: Open) -> None:
    """All that a client's ``rotate`` gives it; old versions stay, and both are released under the policy."""
    world = World(storage=store())
    made = due(world)
    old = world.ok("PATCH", "/keys/k/", {"tags": {"a": "b"}, "key_ops": ["sign"], "attributes": {"nbf": AT}})
    at(world, 90)
    new = world.ok("GET", "/keys/k/")
    for bundle in (old, new):
        for name in ("kid", "x", "y"):
            del bundle["key"][name]
    expected = {**old["attributes"], "created": AT + 90 * DAY, "updated": AT + 90 * DAY}
    del expected["nbf"]
    assert new == {**old, "attributes": {**expected, "exp": AT + 455 * DAY}}
    token = sign(claims(exp=AT + 91 * DAY))
    assert world.release(token).status_code == 200
    assert opened(world.release(token).json()["value"])
    assert world.ok("GET", f"/keys/k/{made['key']['kid'][-32:]}")["key"] == made["key"] | {
        "key_ops": ["sign"]
    }


def test_an_immutable_release_policy_stays(store: Open) -> None:
    """A new version has it, and a backup from before the rotation does not bring another one back."""
    world = World(storage=store())
    world.exportable(immutable=True)
    world.ok("PUT", "/keys/k/rotationpolicy", {"lifetimeActions": [rotate_after("P90D")]})
    at(world, 90)
    new = world.ok("GET", "/keys/k/")
    assert new["release_policy"]["immutable"] is True
    other = {"release_policy": {"data": policy({"claim": "a", "equals": "b"}).hex()}}
    assert "1020" in world.refused("PATCH", "/keys/k/", other)[2]
    assert "exp" not in new["attributes"]
    at(world, 180)
    assert count(world) == 3


def test_rotation_before_expiry(store: Open) -> None:
    """From the expiry back; a new version lives by the same, and is not due at once."""
    world = World(storage=store())
    world.ok("POST", "/keys/k/create", {"kty": "EC", "attributes": {"exp": AT + 30 * DAY}})
    rule = {"trigger": {"timeBeforeExpiry": "P10D"}, "action": {"type": "Rotate"}}
    world.ok(
        "PUT", "/keys/k/rotationpolicy", {"lifetimeActions": [rule], "attributes": {"expiryTime": "P28D"}}
    )
    at(world, 19.9)
    assert count(world) == 1
    for _ in range(3):
        at(world, 20)
    assert count(world) == 2
    assert world.ok("GET", "/keys/k/")["attributes"]["exp"] == AT + 48 * DAY
    at(world, 38)
    assert count(world) == 3


@pytest.mark.parametrize("change", ["disable", "delete", "purge", "replace", "policy"])
def test_what_is_not_due_any_more(change: str, store: Open) -> None:
    """A disabled or deleted key is not rotated; nor is one with a new version, or another rule."""
    world = World(storage=store())
    due(world)
    world.clock.at = NOW + timedelta(days=80)
    match change:
        case "disable":
            world.ok("PATCH", "/keys/k/", {"attributes": {"enabled": False}})
        case "delete":
            world.ok("DELETE", "/keys/k")
        case "purge":
            world.ok("DELETE", "/keys/k")
            world.ok("DELETE", "/deletedkeys/k")
        case "replace":
            world.ok("POST", "/keys/k/rotate")
        case "policy":
            world.ok("PUT", "/keys/k/rotationpolicy", {"lifetimeActions": []})
    at(world, 100)
    assert recorded(world, "auto-rotate") == []
    if change not in ("replace", "delete"):  # what is deleted is due to be forgotten, after its days
        assert keys.due(world.storage, AT + 1000 * DAY) == []
    if change == "disable":
        world.ok("PATCH", "/keys/k/", {"attributes": {"enabled": True}})
        at(world, 100)
        assert len(recorded(world, "auto-rotate")) == 1
    if change == "delete":
        world.ok("POST", "/deletedkeys/k/recover")
        at(world, 100)
        assert len(recorded(world, "auto-rotate")) == 1


def test_instances_rotate_once(store: Open) -> None:
    """If several instances run their tasks at once, one rotates each key, and one entry records it."""
    worlds = [World(storage=store())]
    worlds += [World(storage=store(), maker=worlds[0].maker) for _ in range(2)]
    names = [f"k{number}" for number in range(4)]
    for name in names:
        due(worlds[0], name)
    ready, faults = threading.Barrier(len(worlds)), []

    def work(world: World) -> None:
        world.clock.at = NOW + timedelta(days=90)
        ready.wait(300)
        try:
            world.service.tend()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(world,)) for world in worlds]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert faults == []
    assert [count(worlds[0], name) for name in names] == [2, 2, 2, 2]
    assert sorted(row[1] for row in recorded(worlds[1], "auto-rotate")) == names


def test_an_instance_that_saw_it_first_is_not_followed() -> None:
    """One that made its material, and finds the key rotated when it keeps it, keeps nothing."""
    storage = MemoryStorage()
    one = World(storage=storage)
    other = World(storage=storage, maker=one.maker)
    due(one)
    before = storage.update

    def slow(work: Any, *meanwhile: Any) -> Any:
        storage.update = before  # type: ignore[method-assign]
        at(other, 90)
        return before(work, *meanwhile)

    storage.update = slow  # type: ignore[method-assign]
    at(one, 90)
    assert count(one) == 2
    assert len(recorded(one, "auto-rotate")) == 1
    assert events(one) == {}
    assert events(other) == {"auto_rotate": 1.0}


def test_an_entry_that_is_not_so_any_more() -> None:
    """The key decides what is due: an outdated entry has no effect."""
    world = World(storage=MemoryStorage())
    for days, name in ((50, "late"), (40, "soon")):
        world.ok("POST", f"/keys/{name}/create", {"kty": "EC", "attributes": {"exp": AT + days * DAY}})
    due(world, after="P30D")
    assert keys.due(world.storage, AT + 9 * DAY) == []
    assert keys.due(world.storage, AT + 10 * DAY) == ["soon"]
    assert keys.due(world.storage, AT + 30 * DAY) == ["soon", "late", "k"]
    for name in ("late", "k", "gone"):
        world.storage.rows["due", name] = (encode(Due(AT)), "")
    at(world, 0)
    assert recorded(world, "auto-rotate", "near-expiry") == []


def test_a_change_that_runs_twice() -> None:
    """A change that lost a race is run again, and still leaves one version and one entry."""
    storage = MemoryStorage()
    world = World(storage=storage)
    due(world)
    storage.twice = True
    at(world, 90)
    assert count(world) == 2


def test_restarts_in_between(store: Open) -> None:
    """What is due is in the store: an instance that starts late does it, one that starts again does not."""
    world = World(storage=store())
    due(world)
    at(world, 50)
    for days, versions in ((80, 1), (95, 2), (96, 2), (400, 3)):
        again = World(storage=store(), maker=world.maker, clock=FixedClock(NOW + timedelta(days=days)))
        again.service.tend()
        assert count(again) == versions


def test_a_clock_that_is_set_back(store: Open) -> None:
    """A host that sets its clock back gains nothing but delay; one that sets it ahead has it done early."""
    world = World(storage=store())
    due(world)
    at(world, 95)
    assert count(world) == 2
    for days in (0, 90, 184):
        at(world, days)
    assert count(world) == 2
    at(world, 185)
    assert count(world) == 3


def test_a_backup_brings_its_policy(store: Open) -> None:
    """A key restored from a backup is due by its policy."""
    world = World(storage=store())
    due(world)
    blob = world.ok("POST", "/keys/k/backup")["value"]
    world.ok("DELETE", "/keys/k")
    world.ok("DELETE", "/deletedkeys/k")
    at(world, 90)
    world.ok("POST", "/keys/restore", {"value": blob})
    at(world, 90)
    assert count(world) == 2


def test_a_key_that_is_about_to_expire(store: Open, caplog: pytest.LogCaptureFixture) -> None:
    """It is reported once: to the record by name, to the log and the metrics without; another expiry
    again.
    """
    caplog.set_level(logging.INFO, "kluis.services")
    world = World(storage=store())
    exp = AT + 100 * DAY
    made = world.ok("POST", "/keys/Near/create", {"kty": "EC", "attributes": {"exp": exp}})
    at(world, 69)
    assert recorded(world, "near-expiry") == []
    for _ in range(3):
        at(world, 70)
    entry = ("near-expiry", "Near", made["key"]["kid"][-32:], "")
    assert recorded(world, "near-expiry") == [entry]
    (line,) = [json.loads(one.getMessage()) for one in caplog.records if "near_expiry" in one.getMessage()]
    assert line == {
        "time": "2026-08-10T00:00:00Z", "service": "keyvault", "event": "near_expiry", "entry": 2,
    }  # fmt: skip
    assert "near" not in "".join(one.getMessage() for one in caplog.records).lower().replace(
        "near_expiry", ""
    )
    assert events(world) == {"near_expiry": 1.0}
    world.ok("PATCH", "/keys/Near/", {"attributes": {"exp": exp + 10 * DAY}})
    at(world, 79)
    assert len(recorded(world, "near-expiry")) == 1
    at(world, 80)
    assert recorded(world, "near-expiry") == [entry, entry]


def test_a_policy_says_when_it_is_told(store: Open) -> None:
    """At the policy's time; and a key that is rotated in time is not reported."""
    world = World(storage=store())
    notify = {"trigger": {"timeBeforeExpiry": "P20D"}, "action": {"type": "Notify"}}
    for name, actions in (("told", [notify]), ("turned", [notify, rotate_after("P60D")])):
        world.ok("POST", f"/keys/{name}/create", {"kty": "EC", "attributes": {"exp": AT + 70 * DAY}})
        asked = {"lifetimeActions": actions, "attributes": {"expiryTime": "P90D"}}
        world.ok("PUT", f"/keys/{name}/rotationpolicy", asked)
    at(world, 49)
    assert recorded(world, "near-expiry") == []
    at(world, 60)
    assert [row[1] for row in recorded(world, "near-expiry")] == ["told"]
    assert [row[1] for row in recorded(world, "auto-rotate")] == ["turned"]


def test_one_keys_trouble_is_no_others() -> None:
    """An unreadable record is reported by its error's code, and the next key is still rotated."""
    world = World(storage=MemoryStorage())
    for name in ("a", "b"):
        due(world, name)
    value, index = world.storage.rows["keys", "a"]
    world.storage.rows["keys", "a"] = (b"\xc1" + value, index)
    at(world, 90)
    assert count(world, "b") == 2
    assert events(world) == {"upkeep_failed": 1.0, "auto_rotate": 1.0}


def test_a_store_that_is_away() -> None:
    """What is due waits until the store answers again."""
    world = World(storage=MemoryStorage())
    due(world)
    real = world.storage.update

    def away(work: Any, *meanwhile: Any) -> Any:
        raise UnavailableError("away")

    world.storage.update = away
    with pytest.raises(UnavailableError):
        at(world, 90)
    world.storage.update = real
    at(world, 90)
    assert count(world) == 2


def test_one_knock_at_a_time() -> None:
    """A second run of the tasks during the first does nothing."""
    world = World(storage=MemoryStorage())
    due(world)
    world.clock.at = NOW + timedelta(days=90)
    real, entered, go = world.storage.scan, threading.Event(), threading.Event()
    scans = []

    def slow(table: str, index: str = "", **rest: Any) -> Any:
        scans.append(table)
        entered.set()
        go.wait(300)
        return real(table, index, **rest)

    world.storage.scan = slow
    first = threading.Thread(target=world.service.tend)
    first.start()
    assert entered.wait(300)
    world.service.tend()
    assert scans == ["due"]
    go.set()
    first.join(300)
    world.storage.scan = real
    assert count(world) == 2
