"""A vault on the store that it has in an enclave: sealed, in a database, with more instances than one."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from typing import Any

from kluis.enclave.store import SealedStore
from kluis.formats.encoding import b64
from kluis.serve.store import Database, keeping
from kluis.services.keyvault.vault import audit, keys
from tests.services.keyvault.world import World, claims, opened, sign

Storage = Any
SECRET = b"S3CRETS3CRETS3CR"


def test_the_life_of_a_key(storage: SealedStore) -> None:
    """Made, released, rotated, backed up, deleted, purged, restored: as on any store."""
    world = World(storage=storage)
    kid = world.exportable()["key"]["kid"]
    assert opened(world.release(sign(claims())).json()["value"])
    world.ok("POST", "/keys/k/rotate")
    assert opened(world.release(sign(claims())).json()["value"])
    assert len(world.ok("GET", "/keys/k/versions")["value"]) == 2
    blob = world.ok("POST", "/keys/k/backup")["value"]
    world.ok("DELETE", "/keys/k")
    assert len(world.ok("GET", "/deletedkeys")["value"]) == 1
    world.ok("DELETE", "/deletedkeys/k")
    world.ok("POST", "/keys/restore", {"value": blob})
    assert world.ok("GET", f"/keys/k/{kid[-32:]}")["key"]["kid"] == kid


def test_instances_share_a_vault(storage: SealedStore) -> None:
    """Two instances on one store are one vault: what one makes the other has, backs up and pages through."""
    one = World(storage=storage)
    other = World(storage=storage, maker=one.maker)
    one.exportable()
    assert opened(other.release(sign(claims())).json()["value"])
    one.ok("POST", "/keys/b/create", {"kty": "EC"})
    token = one.ok("GET", "/keys", maxresults="1")["nextLink"].split("$skiptoken=")[1].split("&")[0]
    assert len(other.ok("GET", "/keys", **{"$skiptoken": token})["value"]) == 1
    blob = one.ok("POST", "/keys/b/backup")["value"]
    other.ok("DELETE", "/keys/b")
    other.ok("DELETE", "/deletedkeys/b")
    assert other.ok("POST", "/keys/restore", {"value": blob})["key"]["kty"] == "EC"


def test_many_writers(storage: SealedStore) -> None:
    """Of many who make versions and have keys released at once, each is on record once, without a gap."""
    world = World(storage=storage)
    world.exportable()
    token, faults = sign(claims()), []

    def work() -> None:
        for _ in range(3):
            answer = world.release(token)
            if answer.status_code != 200:
                faults.append(answer.text)
        world.ok("POST", "/keys/more/create", {"kty": "EC"})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert faults == []
    told = world.ok("GET", "/audit", roles=("Kluis Auditor",))
    assert [entry["sequence"] for entry in told["value"]] == list(range(1, 18))
    assert told["head"]["sequence"] == 17
    assert len(world.ok("GET", "/keys/more/versions")["value"]) == 4


def test_the_database_holds_no_material(tmp_path: Path) -> None:
    """What the host keeps has neither material, nor names, nor policies."""
    with Database(f"sqlite:///{tmp_path / 'storage.db'}") as database:
        world = World(storage=SealedStore(keeping.records(database, "test"), os.urandom(32)))
        jwk = {"kty": "oct", "k": b64.encode_url(SECRET)}
        world.ok("PUT", "/keys/A-Name-Of-A-Key", {"key": jwk, "Hsm": True})
        world.exportable("Another-Name")
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert len(kept) > 4096
    for word in (
        SECRET,
        SECRET.hex().encode(),
        b64.encode_url(SECRET).encode(),
        b"name-of-a-key",
        b"attest.example",
    ):
        assert word not in kept.lower() if word.islower() else word not in kept


def test_many_who_change_one_key(storage: SealedStore) -> None:
    """Whatever is done to one key at once by two instances: each change is whole, none is lost or doubled."""
    one = World(storage=storage)
    worlds = (one, World(storage=storage, maker=one.maker))
    one.exportable()
    made, answers = [1], []
    steps: list[tuple[str, str, Any]] = [
        ("POST", "/keys/k/rotate", None), ("POST", "/keys/k/create", {"kty": "EC-HSM"}),
        ("PATCH", "/keys/k/", {"tags": {"a": "b"}}), ("DELETE", "/keys/k", None),
        ("POST", "/deletedkeys/k/recover", None), ("GET", "/keys/k/", None), ("POST", "/keys/k/backup", None),
        ("GET", "/keys/k/versions", None),
        ("PUT", "/keys/k/rotationpolicy", {"lifetimeActions": []}),
    ]  # fmt: skip

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(25):
            method, path, body = chance.choice(steps)
            answer = worlds[number % 2].send(method, path, body)
            answers.append((answer.status_code, path, answer.text))
            if answer.status_code == 200 and path in ("/keys/k/rotate", "/keys/k/create"):
                made.append(1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert len(answers) == 100
    assert [each for each in answers if each[0] not in (200, 404, 409)] == []
    one.send("POST", "/deletedkeys/k/recover")
    record = keys.demand(storage, "k", 0)
    ids = [each.id for each in keys.versions(storage, record)]
    assert len(ids) == len(set(ids)) == len(made)
    told = audit.entries(storage, 0, 1000)
    hashes = ["0" * 64]
    for entry in told:
        assert entry.previous == hashes[-1]
        hashes.append(entry.compute_hash())
    assert len(hashes) == 1 + audit.head(storage).sequence
