"""Enrolment requests that somebody kept, and sends again after the platform or the owner went on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from kluis.enclave.store.sealed import SealedStore
from kluis.services.provisioning import replays
from kluis.testing.plugin import storage
from tests.services.provisioning.serving import OWNER, READER, SGX, TWOS, Asking, Platform

__all__ = ["storage"]

BEGIN = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def asking(storage: SealedStore) -> Asking:
    """The service."""
    return Asking(storage, BEGIN)


def send(asking: Asking, request: bytes) -> httpx.Response:
    """A request as it was kept."""
    return asking.ask("POST", f"{SGX}/platforms", content=request)


def stale(answer: httpx.Response) -> bool:
    """Whether it was refused for its age."""
    return answer.status_code == 403 and answer.json()["error"]["code"] == "enrolment_stale"


def waiting(asking: Asking) -> list[int]:
    """What those that wait ask for."""
    listed = asking.ask("GET", "/kluis/platforms", READER).json()["platforms"]
    return [one["pcesvn"] for one in listed if one["status"] == "pending"]


def test_an_older_request_does_not_take_the_place_of_the_one_that_waits(asking: Asking) -> None:
    """A platform that requests another TCB is certified for that, and not for the earlier request."""
    platform = Platform(pcesvn=5)
    kept = platform.request(asking)
    assert send(asking, kept).status_code == 202
    asking.clock.at += timedelta(minutes=1)
    platform.pcesvn = 2
    assert asking.enrol(platform).status_code == 202
    assert stale(send(asking, kept))
    assert waiting(asking) == [2]


def test_a_request_of_the_same_second_does_not_either(asking: Asking) -> None:
    """Of two requests of one second the first stays; the very same one may come again."""
    platform = Platform(pcesvn=2)
    first = platform.request(asking)
    platform.pcesvn = 5
    second = platform.request(asking)
    assert send(asking, first).status_code == 202
    assert send(asking, first).status_code == 202
    assert stale(send(asking, second))
    assert waiting(asking) == [2]


def test_an_older_request_that_needs_no_owner_does_not_end_the_one_that_waits(asking: Asking) -> None:
    """A lower TCB is certified without approval, and so must not be what an older request wanted."""
    platform = Platform(pcesvn=3)
    asking.enrol(platform)
    asking.order("certify", ppid=platform.ppid.hex())
    asking.clock.at += timedelta(minutes=1)
    platform.pcesvn = 2
    kept = platform.request(asking)
    asking.clock.at += timedelta(minutes=1)
    platform.pcesvn = 5
    assert asking.enrol(platform).status_code == 202
    assert stale(send(asking, kept))
    assert waiting(asking) == [5]


def test_a_refusal_stays(asking: Asking) -> None:
    """What an owner refused does not wait again; a later request of the platform does."""
    platform = Platform()
    older = platform.request(asking)
    asking.clock.at += timedelta(minutes=1)
    kept = platform.request(asking)
    send(asking, kept)
    assert asking.order("refuse", ppid=platform.ppid.hex()).status_code == 204
    assert stale(send(asking, kept))
    assert stale(send(asking, older))
    asking.ask("POST", "/kluis/terms", OWNER, json={"open": True})
    assert stale(send(asking, kept))
    asking.ask("POST", "/kluis/terms", OWNER, json={"open": False})
    asking.clock.at += timedelta(seconds=1)
    assert asking.enrol(platform).status_code == 202


def test_many_refusals_do_not_bring_the_first_back(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals are kept in a bounded number; the request of one that was forgotten is refused still."""
    monkeypatch.setattr(replays, "MAX_PENDING", 3)
    first = Platform()
    kept = first.request(asking)
    send(asking, kept)
    asking.order("refuse", ppid=first.ppid.hex())
    for number in range(4):
        asking.clock.at += timedelta(seconds=1)
        other = Platform(bytes([100 + number] * 16))
        assert asking.enrol(other).status_code == 202
        asking.order("refuse", ppid=other.ppid.hex())
    assert len(list(asking.storage.scan(replays.REFUSED))) == 4
    assert stale(send(asking, kept))


def test_a_refused_strangers_key_costs_the_platform_nothing(asking: Asking) -> None:
    """A stranger's key that was refused does not make the platform's own requests old."""
    platform, stranger = Platform(), Platform()
    request = platform.request(asking)
    asking.clock.at += timedelta(minutes=1)
    assert asking.enrol(stranger).status_code == 202
    asking.order("refuse", ppid=stranger.ppid.hex())
    assert send(asking, request).status_code == 202


def newest(asking: Asking) -> list[int]:
    """What the certified platforms are certified for last."""
    listed = asking.ask("GET", "/kluis/platforms", READER).json()["platforms"]
    return [one["pcesvn"] for one in listed if one["status"] != "pending"]


def certified(asking: Asking, platform: Platform) -> None:
    """Let the owner certify a platform's request, and let a minute pass."""
    assert asking.enrol(platform).status_code == 202
    assert asking.order("certify", ppid=platform.ppid.hex()).status_code == 200
    asking.clock.at += timedelta(minutes=1)


def test_a_request_that_was_answered_with_an_old_certificate_counts(asking: Asking) -> None:
    """An earlier request of a platform does not become its newest certificate."""
    platform = Platform(pcesvn=5)
    certified(asking, platform)
    kept = platform.request(asking, pcesvn=2)
    asking.clock.at += timedelta(minutes=1)
    assert asking.enrol(platform).status_code == 201
    assert stale(send(asking, kept))
    assert newest(asking) == [5]


def test_a_request_of_the_second_of_the_certified_one(asking: Asking) -> None:
    """Of two requests of one second the first stays, when the first is certified too."""
    platform = Platform(pcesvn=5)
    kept = platform.request(asking, pcesvn=2)
    request = platform.request(asking)
    assert send(asking, request).status_code == 202
    assert asking.order("certify", ppid=platform.ppid.hex()).status_code == 200
    assert stale(send(asking, kept))
    assert send(asking, request).status_code == 201
    assert newest(asking) == [5]


@pytest.mark.parametrize("everyone", [False, True])
def test_a_certified_platforms_refusal_is_not_forgotten(
    asking: Asking, monkeypatch: pytest.MonkeyPatch, everyone: bool
) -> None:
    """A higher TCB that an owner refused does not come back after many refusals of others."""
    monkeypatch.setattr(replays, "MAX_PENDING", 3)
    platform = Platform(pcesvn=2)
    certified(asking, platform)
    kept = platform.request(asking, pcesvn=5)
    assert send(asking, kept).status_code == 202
    assert asking.order("refuse", ppid=platform.ppid.hex()).status_code == 204
    for number in range(5):
        asking.clock.at += timedelta(seconds=1)
        other = Platform(bytes([100 + number] * 16))
        assert asking.enrol(other).status_code == 202
        assert asking.order("refuse", ppid=other.ppid.hex()).status_code == 204
    asking.ask("POST", "/kluis/terms", OWNER, json={"open": everyone})
    assert stale(send(asking, kept))
    assert newest(asking) == [2]


def test_a_refusal_costs_a_certified_platform_nothing_else(asking: Asking) -> None:
    """After a refusal the platform still gets the certificates that it has."""
    platform = Platform(pcesvn=2)
    certified(asking, platform)
    platform.pcesvn = 5
    assert asking.enrol(platform).status_code == 202
    assert asking.order("refuse", ppid=platform.ppid.hex()).status_code == 204
    asking.clock.at += timedelta(seconds=1)
    platform.pcesvn = 2
    assert asking.enrol(platform).status_code == 201


def test_versions_that_the_owner_reviews_are_not_raised(asking: Asking) -> None:
    """What is listed is what an order certifies: no higher versions take the place of those that wait."""
    platform = Platform(pcesvn=2)
    ppid = platform.ppid.hex()
    assert asking.enrol(platform).status_code == 202
    asking.clock.at += timedelta(minutes=1)
    for changes in ({"pcesvn": 65535}, {"cpusvn": bytes([1] * 15 + [2])}, {"pcesvn": 1, "cpusvn": TWOS}):
        answer = send(asking, platform.request(asking, **changes))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "enrolment_versions")
    assert waiting(asking) == [2]
    assert asking.order("certify", ppid=ppid).status_code == 200
    platform.pcesvn = 65535
    assert asking.enrol(platform).status_code == 202
    assert waiting(asking) == [65535]


def test_versions_that_wait_are_not_raised_in_two_steps(asking: Asking) -> None:
    """Nor after lower ones, which take their place, or which a platform gets without approval."""
    platform = Platform(pcesvn=3)
    ppid = platform.ppid.hex()
    for step, (pcesvn, status) in enumerate([(3, 202), (2, 202), (3, 403)]):
        asking.clock.at = BEGIN + timedelta(minutes=step)
        platform.pcesvn = pcesvn
        assert asking.enrol(platform).status_code == status
    assert asking.order("certify", ppid=ppid).status_code == 200
    for step, (pcesvn, status) in enumerate([(3, 202), (1, 201), (65535, 403)], 3):
        asking.clock.at = BEGIN + timedelta(minutes=step)
        platform.pcesvn = pcesvn
        assert asking.enrol(platform).status_code == status
    assert waiting(asking) == [3]
    assert asking.order("certify", ppid=ppid).status_code == 200
    assert waiting(asking) == []
    asking.clock.at = BEGIN + timedelta(minutes=3, seconds=30)
    platform.pcesvn = 9
    assert stale(asking.enrol(platform))
