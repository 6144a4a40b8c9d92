"""A room's reader trusts keys from an agreement and its own record, and never only the folder."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kluis.cleanroom.agreement.agreement import Agreement, sign
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.keyring import Keyring, find_agreement
from kluis.cleanroom.records.rooms import Room
from kluis.errors import AuthenticityError, PolicyError
from tests.cleanroom import samples
from tests.cleanroom.logs import agreed_room
from tests.cleanroom.samples import Setting


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return samples.setting(tmp_path / "homes")


@pytest.fixture
def place(tmp_path: Path, setting: Setting) -> tuple[Room, Agreement]:
    return agreed_room(tmp_path / "room", setting)


def usurped(room: Room, name: str, folder: Path) -> Home:
    """An attacker with write access puts a key in the folder in a party's name."""
    home = Home.create(folder / name, name)
    (room.path / "parties" / f"{name}.json").unlink(missing_ok=True)
    room.join(home, home.public(name, ("owner", "recipient")))
    return home


def test_the_agreements_key_is_believed(
    place: tuple[Room, Agreement], setting: Setting, tmp_path: Path
) -> None:
    """A party in an agreement has the key that is in it; the folder's key is ignored."""
    room, agreement = place
    usurped(room, "laboratory", tmp_path)
    keyring = Keyring(room, [agreement])
    assert keyring.keys("laboratory") == (setting.homes["laboratory"].signing.public,)
    assert keyring.word("laboratory") == "agreement"


def test_ones_own_key_is_believed(place: tuple[Room, Agreement], setting: Setting, tmp_path: Path) -> None:
    """Before an agreement a party knows its own key from its own record, and others' only from the folder."""
    room, _ = place
    usurped(room, "clinic", tmp_path)
    other = usurped(room, "laboratory", tmp_path)
    keyring = Keyring(room, [], setting.homes["clinic"])
    assert keyring.keys("clinic") == (setting.homes["clinic"].signing.public,)
    assert keyring.word("clinic") == "own"
    assert keyring.keys("laboratory") == (other.signing.public,)
    assert keyring.word("laboratory") == "folder"


def test_a_key_of_each_agreement(place: tuple[Room, Agreement], tmp_path: Path) -> None:
    """A party that a later agreement names with another key has both."""
    room, agreement = place
    new = Home.create(tmp_path / "laboratory", "laboratory")
    party = new.public("The laboratory", ("owner", "recipient"))
    later = msgspec.structs.replace(agreement, parties=(agreement.parties[0], party))
    assert Keyring(room, [agreement, later]).keys("laboratory") == (
        agreement.party("laboratory").signing_key,
        new.signing.public,
    )


def test_a_stranger_has_no_key(place: tuple[Room, Agreement], tmp_path: Path) -> None:
    """An unknown party has no key, and a file under another's name is refused."""
    room, agreement = place
    keyring = Keyring(room, [agreement])
    assert keyring.keys("eve") == ()
    usurped(room, "mallory", tmp_path)
    (room.path / "parties" / "mallory.json").rename(room.path / "parties" / "eve.json")
    with pytest.raises(AuthenticityError, match="party eve: want a file about it, got one about mallory"):
        keyring.keys("eve")


def test_a_file_that_its_party_did_not_sign(place: tuple[Room, Agreement], tmp_path: Path) -> None:
    """A key that did not sign its own file is refused, even at folder level."""
    room, _ = place
    eve, mallory = (Home.create(tmp_path / name, name) for name in ("eve", "mallory"))
    room.join(mallory, eve.public("Eve", ("owner",)))
    with pytest.raises(AuthenticityError) as caught:
        Keyring(room, []).keys("eve")
    assert caught.value.message == "party eve: the signature is not by this key over these bytes"


def test_an_agreement_of_another_room(place: tuple[Room, Agreement], setting: Setting) -> None:
    """An agreement's keys are for its own room."""
    with pytest.raises(AuthenticityError) as caught:
        Keyring(place[0], [setting.agreement])
    assert caught.value.message == (
        f"room: want 7f7f7f7f7f7f7f7f.., as agreement {setting.agreement.hash[:16]} names it, "
        f"got {place[0].file.room[:16]}.."
    )


def test_a_record_is_of_its_room(place: tuple[Room, Agreement], setting: Setting) -> None:
    """A party's own record gives the agreements that it signed in one room, and none of another's."""
    clinic = setting.homes["clinic"]
    setting.signed()
    assert clinic.agreements(place[0].file.room) == (place[1],)
    assert clinic.agreements(samples.ROOM) == (setting.agreement,)
    assert clinic.agreements("00" * 32) == ()


def test_by_its_hash(place: tuple[Room, Agreement]) -> None:
    """The folder's agreement is taken by its hash if all signed it."""
    room, agreement = place
    assert find_agreement(room, agreement.hash) == agreement
    with pytest.raises(AuthenticityError) as caught:
        find_agreement(room, "00" * 32)
    assert caught.value.message == f"room: want agreement {'0' * 16}.., got {agreement.hash[:16]}.."
    (room.path / "signatures" / "laboratory.json").unlink()
    with pytest.raises(PolicyError):
        find_agreement(room, agreement.hash)


def test_by_its_hash_from_ones_own_record(place: tuple[Room, Agreement], setting: Setting) -> None:
    """An agreement that its party has by its own record needs no folder, which may propose another now."""
    room, agreement = place
    later = msgspec.structs.replace(agreement, title="Later")
    room.propose(later)
    room.add_signature(sign(later, "clinic", setting.homes["clinic"].signing))
    assert find_agreement(room, agreement.hash, setting.homes["clinic"]) == agreement
