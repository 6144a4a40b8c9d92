"""Keys of more versions than one change of the store holds: whatever is done with them is done whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
import pytest

from kluis.enclave.store import SealedStore
from kluis.enclave.store.model import Writing
from kluis.errors import UnavailableError
from kluis.formats.encoding import b64
from kluis.serve.store import Database, keeping
from kluis.services.keyvault.keys import backup
from kluis.services.keyvault.vault import keys, pinned_policies
from tests.services.keyvault.memory import MemoryStorage
from tests.services.keyvault.world import World, claims, opened, policy, sign
from tests.services.web.issuer import NOW

T = TypeVar("T")
MANY = 1500
AUDITOR = ("Kluis Auditor",)
LEFT = ("keys", "versions", "due")


def fill(world: World, count: int = MANY, name: str = "k") -> list[str]:
    """Give a key older versions, as so many rotations would; the ids of all, in order."""
    record = keys.demand(world.storage, name, 0)
    older = [
        msgspec.structs.replace(record.current, id=os.urandom(16).hex(), size=at) for at in range(count - 1)
    ]
    for at in range(0, len(older), 500):

        def work(writing: Writing, at: int = at) -> None:
            for one in older[at : at + 500]:
                keys.keep_version(writing, record, one)

        world.storage.update(work)
    return sorted([*(one.id for one in older), record.current.id])


def listed(world: World, name: str = "k") -> list[str]:
    """The ids of every version, page by page."""
    found: list[str] = []
    query: dict[str, str] = {}
    while True:
        page = world.ok("GET", f"/keys/{name}/versions", **query)
        found += [each["kid"][-32:] for each in page["value"]]
        if page["nextLink"] is None:
            return found
        query = {"$skiptoken": page["nextLink"].split("$skiptoken=")[1].split("&")[0]}


def recorded(world: World) -> list[str]:
    """The events of the record, in order."""
    return [each["operation"] for each in world.ok("GET", "/audit", roles=AUDITOR)["value"]]


def left(storage: Any) -> list[str]:
    """Every record of keys."""
    return [key for table in LEFT for key, _ in storage.scan(table)]


@pytest.fixture
def store(database_url: str) -> Iterator[SealedStore]:
    """A sealed store, in SQLite and in PostgreSQL."""
    with Database(database_url) as database:
        yield SealedStore(keeping.records(database, "test"), os.urandom(32))


def test_the_life_of_a_key_with_thousands_of_versions(store: SealedStore) -> None:
    """Listed, rotated, released, deleted, recovered, backed up, purged and restored, with every version."""
    world = World(storage=store)
    world.exportable()
    ids = fill(world)
    assert listed(world) == ids
    ids = sorted([*ids, world.ok("POST", "/keys/k/rotate")["key"]["kid"][-32:]])
    blob = world.ok("POST", "/keys/k/backup")["value"]
    world.ok("DELETE", "/keys/k")
    assert world.ok("POST", "/deletedkeys/k/recover")["key"]["kid"][-32:] in ids
    world.ok("DELETE", "/keys/k")
    world.ok("DELETE", "/deletedkeys/k")
    assert left(store) == []
    world.ok("POST", "/keys/restore", {"value": blob})
    assert listed(world) == ids
    assert opened(world.release(sign(claims())).json()["value"])
    assert recorded(world) == [
        "create", "rotate", "backup", "delete", "recover", "delete", "purge", "restore", "release",
    ]  # fmt: skip


def test_a_policy_becomes_immutable_for_thousands_of_versions(store: SealedStore) -> None:
    """No backup from before brings any version back under the policy of then; a later one does."""
    world = World(storage=store)
    world.exportable(rule=policy({"claim": "anything", "equals": "goes"}))
    fill(world)
    before = world.ok("POST", "/keys/k/backup")["value"]
    strict = {"data": b64.encode_url(policy()), "immutable": True}
    world.ok("PATCH", "/keys/k/", {"release_policy": strict})
    assert len(list(store.scan(pinned_policies.PINNED))) == 1
    world.ok("POST", "/keys/k/rotate")
    assert len(list(store.scan(pinned_policies.PINNED))) == 2
    after = world.ok("POST", "/keys/k/backup")["value"]
    world.ok("DELETE", "/keys/k")
    world.ok("DELETE", "/deletedkeys/k")
    assert world.refused("POST", "/keys/restore", {"value": before})[:3] == (
        400, "BadParameter", "AKV.SKR.1020: Immutable Key Release Policy cannot be modified.",
    )  # fmt: skip
    assert left(store) == []
    assert world.ok("POST", "/keys/restore", {"value": after})["release_policy"]["immutable"]
    assert len(listed(world)) == MANY + 1
    assert len(list(store.scan(pinned_policies.PINNED))) == 2


class Failing(MemoryStorage):
    """A store that breaks before one of its changes, and works again after."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None

    def update(self, work: Callable[[Any], T], *meanwhile: Callable[[], None]) -> T:
        if self.left == 0:
            self.left = None
            raise UnavailableError("database: gone")
        if self.left is not None:
            self.left -= 1
        return super().update(work, *meanwhile)


def nobody_has(world: World) -> None:
    """The key is nowhere, and its name is taken."""
    for method, path in (
        ("GET", "/keys/k/"), ("GET", "/deletedkeys/k"), ("POST", "/deletedkeys/k/recover"),
        ("DELETE", "/deletedkeys/k"), ("POST", "/keys/k/backup"), ("POST", "/keys/k/rotate"),
    ):  # fmt: skip
        assert world.refused(method, path)[:2] == (404, "KeyNotFound")
    for path in ("/keys", "/deletedkeys", "/keys/k/versions"):
        assert world.ok("GET", path)["value"] == []
    status, code, _, inner = world.refused("POST", "/keys/K/create", {"kty": "EC"})
    assert (status, code, inner) == (409, "Conflict", "ObjectIsBeingDeleted")


@pytest.mark.parametrize("after", [1, 2, 4])
@pytest.mark.parametrize("who", ["create", "restore", "knock"])
def test_a_purge_that_is_cut_short(after: int, who: str) -> None:
    """A purge that began is final for the key: it cannot be recovered, and a caller a minute later ends
    it.
    """
    world = World(storage=Failing())
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    fill(world, 2200)
    blob = world.ok("POST", "/keys/k/backup")["value"]
    world.ok("DELETE", "/keys/k")
    world.storage.left = after
    assert world.refused("DELETE", "/deletedkeys/k")[0] == 503
    assert 0 < len(left(world.storage)) < 2200
    nobody_has(world)
    assert world.refused("POST", "/keys/restore", {"value": blob})[3] == "ObjectIsBeingDeleted"
    world.service.tend()
    nobody_has(world)
    world.clock.at = NOW + timedelta(seconds=60)
    if who == "create":
        world.ok("POST", "/keys/k/create", {"kty": "EC"})
        assert len(listed(world)) == 1
    elif who == "restore":
        world.ok("POST", "/keys/restore", {"value": blob})
        assert len(listed(world)) == 2200
    else:
        world.service.tend()
        assert left(world.storage) == []
    assert recorded(world).count("purge") == 1
    assert "auto-purge" not in recorded(world)


def gone(world: World) -> str:
    """The backup of a key that is not there any more."""
    blob: str = world.ok("POST", "/keys/k/backup")["value"]
    world.ok("DELETE", "/keys/k")
    world.ok("DELETE", "/deletedkeys/k")
    return blob


@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_restoration_that_is_cut_short(after: int) -> None:
    """It never was: no version is there before all are, and the backup restores a minute later."""
    world = World(storage=Failing())
    world.exportable()
    ids = fill(world, 2200)
    blob = gone(world)
    world.storage.left = after
    assert world.refused("POST", "/keys/restore", {"value": blob})[0] == 503
    assert left(world.storage)
    nobody_has(world)
    assert world.release(sign(claims())).status_code == 404
    assert world.refused("POST", "/keys/restore", {"value": blob})[3] == "ObjectIsBeingDeleted"
    world.clock.at = NOW + timedelta(seconds=60)
    world.ok("POST", "/keys/restore", {"value": blob})
    assert listed(world) == ids
    assert recorded(world).count("restore") == 1


def test_a_restoration_that_is_overtaken() -> None:
    """One that took so long that another cleared away its beginning is refused, and leaves nothing."""
    world = World(storage=Failing())
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    fill(world, 1200)
    blob = gone(world)
    storage, real = world.storage, world.storage.update
    seen: list[int] = []

    def update(work: Callable[[Any], T], *meanwhile: Callable[[], None]) -> T:
        seen.append(1)
        if len(seen) == 2:
            storage.update = real
            world.clock.at = NOW + timedelta(seconds=60)
            world.ok("POST", "/keys/k/create", {"kty": "EC"})
        return real(work, *meanwhile)

    storage.update = update
    assert world.refused("POST", "/keys/restore", {"value": blob})[:2] == (409, "Conflict")
    assert len(listed(world)) == 1


@pytest.mark.parametrize("who", ["create", "restore"])
def test_one_who_comes_while_a_key_is_brought_back(who: str) -> None:
    """A name that is looked at before a restoration begins, and changed after, is not mixed with it."""
    world = World(storage=Failing())
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    fill(world, 1200)
    blob = gone(world)
    storage, real = world.storage, world.storage.update

    def update(work: Callable[[Any], T], *meanwhile: Callable[[], None]) -> T:
        storage.update, storage.left = real, 1
        assert world.refused("POST", "/keys/restore", {"value": blob})[0] == 503
        return real(work, *meanwhile)

    storage.update = update
    path, body = ("/keys/k/create", {"kty": "EC"}) if who == "create" else ("/keys/restore", {"value": blob})
    assert world.refused("POST", path, body)[3] == "ObjectIsBeingDeleted"
    nobody_has(world)


def test_what_was_deleted_long_ago_is_forgotten(store: SealedStore) -> None:
    """After its days, nothing of a key is left once the tasks ran, and the record has it."""
    world = World(storage=store, recoverable_days=7)
    world.exportable()
    fill(world)
    world.ok("DELETE", "/keys/k")
    world.ok("POST", "/keys/other/create", {"kty": "EC"})
    world.clock.at = NOW + timedelta(days=7, seconds=-1)
    world.service.tend()
    assert len(left(store)) > MANY
    world.clock.at = NOW + timedelta(days=7)
    world.service.tend()
    assert left(store) == ["other"]
    assert recorded(world) == ["create", "delete", "create", "auto-purge"]


def test_a_backup_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that would be larger than what is restored is not made, and not on record."""
    world = World()
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    fill(world, 100)
    size = len(b64.decode_url(world.ok("POST", "/keys/k/backup")["value"], "blob"))
    monkeypatch.setattr(backup, "MAX_BLOB", size)
    blob = world.ok("POST", "/keys/k/backup")["value"]
    assert world.refused("POST", "/keys/restore", {"value": blob})[1] == "Conflict"
    monkeypatch.setattr(backup, "MAX_BLOB", size - 1)
    assert world.refused("POST", "/keys/k/backup")[:3] == (
        400, "BadParameter",
        f"key k: want a backup of at most {size - 1} bytes, got {size}: it has 100 versions",
    )  # fmt: skip
    assert recorded(world) == ["create", "backup", "backup"]
