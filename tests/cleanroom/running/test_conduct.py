"""The host's part: it carries, and gains nothing; local owners, and remote ones."""

from __future__ import annotations

import datetime
import threading
from pathlib import Path

import pytest

from kluis.cleanroom.agreement.exchange import Challenge, Offer, Release
from kluis.cleanroom.receipts.receipt import check_receipt
from kluis.cleanroom.records.rooms import Room
from kluis.cleanroom.running import conduct, mailbox
from kluis.cleanroom.running.release import Owner, stop
from kluis.errors import KluisError, PolicyError, UnavailableError
from tests.cleanroom import samples
from tests.cleanroom.inprocess import InProcess
from tests.cleanroom.platform import Attester, Platform

NOW = samples.NOW + datetime.timedelta(hours=1)


class Place:
    """A room's folder that both owners have signed in, and a platform."""

    def __init__(self, folder: Path) -> None:
        self.platform = Platform(samples.NOW)
        self.setting = samples.setting(folder / "homes", samples.code(root=self.platform.root()))
        self.room = Room.create(folder / "room", "Sample", "Tests")
        for dataset in self.setting.agreement.datasets:
            home = self.setting.homes[dataset.owner]
            self.room.join(home, self.setting.agreement.party(dataset.owner))
            self.room.add_dataset(home, dataset, (self.setting.files[dataset.id],))
        self.room.propose(self.setting.agreement)
        for signature in self.setting.signed().signatures:
            self.room.add_signature(signature)

    def owner(self, name: str) -> Owner:
        return Owner(
            self.setting.homes[name], self.room.signed_agreement(), self.room.stops(self.setting.agreement)
        )

    def local_owners(self, *names: str) -> dict[str, conduct.Participant]:
        return {name: conduct.LocalOwner(self.owner(name), lambda: NOW) for name in names}

    def enclave(self, **change: object) -> InProcess:
        return InProcess(Attester(self.platform, **change))  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_both_at_hand(place: Place) -> None:
    """A run leaves sealed results and a receipt that holds in the room's folder."""
    ended = conduct.conduct(
        place.enclave(), place.room, place.local_owners("clinic", "laboratory"), place.platform.collateral()
    )
    assert sorted(path.name for path in ended.folder.iterdir()) == [
        "by-sex.sealed",
        "death.sealed",
        "receipt.json",
    ]
    assert place.room.runs() == (ended.run,)
    assert (
        check_receipt(place.room.receipt(ended.run), place.setting.agreement.hash).statement.run == ended.run
    )


def test_an_owner_is_absent(place: Place) -> None:
    """Without every owner nothing begins, and who is missing is named."""
    with pytest.raises(PolicyError) as caught:
        conduct.conduct(
            place.enclave(), place.room, place.local_owners("clinic"), place.platform.collateral()
        )
    assert caught.value.message == "run: want every owner to take part, missing ['laboratory']"


def test_stopped(place: Place) -> None:
    """A stop in the folder ends the run before an enclave is called."""
    signed = stop(place.setting.homes["laboratory"], place.setting.agreement, NOW)
    participants = place.local_owners("clinic")
    place.room.add_stop("laboratory", place.setting.agreement.hash, signed)
    with pytest.raises(PolicyError) as caught:
        conduct.conduct(place.enclave(), place.room, participants, place.platform.collateral())
    assert caught.value.code == "stopped"


class _Late(conduct.LocalOwner):
    """An owner during whose release another one stops the agreement."""

    def __init__(self, place: Place, name: str, other: str) -> None:
        super().__init__(place.owner(name), lambda: NOW)
        self._place, self._other = place, other

    def release(self, offer: Offer, collateral: bytes) -> Release:
        released = super().release(offer, collateral)
        _stop(self._place, self._other)
        return released


class _Asks(Owner):
    """An owner who sends a request, and then another owner stops the agreement."""

    place: Place

    def challenge(self) -> Challenge:
        _stop(self.place, "clinic")
        return super().challenge()


def _stop(place: Place, name: str) -> None:
    agreement = place.setting.agreement
    place.room.add_stop(name, agreement.hash, stop(place.setting.homes[name], agreement, NOW))


def test_stopped_while_another_owner_is_waited_for(place: Place) -> None:
    """A stop that comes after its owner's keys, and before the last owner's, ends the run as well."""
    participants = {**place.local_owners("clinic"), "laboratory": _Late(place, "laboratory", "clinic")}
    with pytest.raises(PolicyError) as caught:
        conduct.conduct(place.enclave(), place.room, participants, place.platform.collateral())
    assert caught.value.code == "stopped"
    assert list((place.room.path / "runs").iterdir()) == []


def test_stopped_while_an_owner_elsewhere_waits(place: Place) -> None:
    """An owner's client that waits for its offer sees another owner's stop, and releases nothing."""
    owner = _Asks(
        place.setting.homes["laboratory"],
        place.room.signed_agreement(),
        place.room.stops(place.setting.agreement),
    )
    owner.place = place
    seen: list[str] = []

    def laboratory() -> None:
        try:
            mailbox.take_part(place.room, "laboratory", owner, 300, lambda: NOW)
        except KluisError as error:
            seen.append(error.code)

    other = threading.Thread(target=laboratory)
    other.start()
    with pytest.raises(PolicyError) as caught:
        _host(place, place.enclave(), 300)
    other.join()
    assert caught.value.code == "stopped"
    assert seen == ["stopped"]
    assert place.setting.homes["laboratory"].releases(place.setting.agreement.hash) == ()


def test_nothing_is_left_of_a_run_that_fails(place: Place) -> None:
    """A run that an owner refuses leaves no file in the room."""
    with pytest.raises(KluisError):
        conduct.conduct(
            place.enclave(debug=True),
            place.room,
            place.local_owners("clinic", "laboratory"),
            place.platform.collateral(),
        )
    assert list((place.room.path / "runs").iterdir()) == []


def _host(place: Place, enclave: InProcess, patience: float) -> conduct.Ended:
    remote = mailbox.RemoteOwner(place.room, "laboratory", patience)
    collateral = place.platform.collateral()
    begun: list[str] = []

    def announce(run: str) -> None:
        begun.append(run)
        mailbox.announce(place.room, place.setting.agreement.hash, run, collateral)
        remote.begin(run)

    try:
        participants = {**place.local_owners("clinic"), "laboratory": remote}
        return conduct.conduct(enclave, place.room, participants, collateral, announce)
    finally:
        for run in begun:
            mailbox.withdraw(place.room, run)


def test_an_owner_elsewhere(place: Place) -> None:
    """An owner on another machine takes part through files, and nothing of the exchange stays."""
    taken: list[str] = []

    def laboratory() -> None:
        taken.append(mailbox.take_part(place.room, "laboratory", place.owner("laboratory"), 300, lambda: NOW))

    other = threading.Thread(target=laboratory)
    other.start()
    ended = _host(place, place.enclave(), 300)
    other.join()
    assert taken == [ended.run]
    assert sorted(path.name for path in ended.folder.iterdir()) == [
        "by-sex.sealed",
        "death.sealed",
        "receipt.json",
    ]


def test_an_owner_elsewhere_refuses(place: Place) -> None:
    """The host of other code gets only the code of the refusal; the owner sees the reason."""
    seen: list[KluisError] = []

    def laboratory() -> None:
        try:
            mailbox.take_part(place.room, "laboratory", place.owner("laboratory"), 300, lambda: samples.LATER)
        except KluisError as error:
            seen.append(error)

    other = threading.Thread(target=laboratory)
    other.start()
    with pytest.raises(PolicyError) as caught:
        _host(place, place.enclave(), 300)
    other.join()
    assert caught.value.message == "run: laboratory released no key (agreement_expired)"
    assert seen[0].message.startswith("agreement is valid from ")
    assert list((place.room.path / "runs").iterdir()) == []


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_host_that_ends_the_run(place: Place, is_stopped: bool) -> None:
    """An owner's client that waits for its offer sees that the host ended the run, and why, if by a stop."""
    mailbox.announce(place.room, place.setting.agreement.hash, "00" * 32, place.platform.collateral())

    def host() -> None:
        mailbox._wait_for(place.room, "00" * 32, {"laboratory.challenge": Challenge}, 60, "laboratory")
        if is_stopped:
            _stop(place, "clinic")
        mailbox.withdraw(place.room, "00" * 32)

    other = threading.Thread(target=host)
    other.start()
    with pytest.raises(KluisError) as caught:
        mailbox.take_part(place.room, "laboratory", place.owner("laboratory"), 60, lambda: NOW)
    other.join()
    if is_stopped:
        assert caught.value.code == "stopped"
    else:
        assert caught.value.message == "run: the host ended it before laboratory.offer.json was there"
    assert list((place.room.path / "runs").iterdir()) == []


def test_nobody_comes(place: Place) -> None:
    """Waiting ends: for an owner who does not come, and for a host that is not there."""
    with pytest.raises(UnavailableError) as caught:
        _host(place, place.enclave(), 0.2)
    assert caught.value.message == "run: waited 0.2 s for laboratory, got no laboratory.challenge.json"
    with pytest.raises(UnavailableError) as none:
        mailbox.take_part(place.room, "laboratory", place.owner("laboratory"), 0.2, lambda: NOW)
    assert none.value.message == "run: no enclave waits for this agreement"
