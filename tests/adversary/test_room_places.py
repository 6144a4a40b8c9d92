"""Anyone who can write a room's folder, with the id, the title or the purpose of another room in it.

A party is in two rooms. Who holds the folder of one, and can read the other's, copies its id and data sets:
what the party seals, proposes and signs for one room would be of another.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from kluis.cleanroom.agreement.agreement import Agreement
from kluis.cleanroom.agreement.documents import encode
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.rooms import Room, RoomFile
from kluis.cleanroom.records.trust import Trust
from kluis.cleanroom.signing import approval
from kluis.errors import AuthenticityError, PolicyError
from tests.cleanroom import samples
from tests.cleanroom.tables import Table, signed_unchecked

OTHER = "ab" * 32
TERMS = 'privacy_unit = "id"\nk_min = 5\nexpires_days = 60\n[allow]\nid = ["join"]\n'


@pytest.fixture
def table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Table:
    """The clinic has a data set of the same name in another room, too."""
    table = Table(tmp_path, capsys)
    kept = table.homes["clinic"].key(samples.ROOM, "people", 1)
    table.homes["clinic"].keep_key(msgspec.structs.replace(kept, room=OTHER))
    return table


def state(table: Table, **changes: str) -> Room:
    """Replace what the folder states of its room."""
    file = RoomFile(kind="kluis-room/1", room=samples.ROOM, title="Sample", purpose="Tests")
    table.room.folder.replace("room.json", encode(msgspec.structs.replace(file, **changes)))
    return Room(table.room.path)


def refusal(table: Table, what: str, want: str, got: str, party: str = "clinic") -> str:
    path = table.room.path
    return f"{path}: want {what} {want!a}, as {party} joined it in {path}, got {got!a}"


def lines(table: Table) -> bytes:
    log = table.room.path / "events.jsonl"
    return log.read_bytes() if log.exists() else b""


def of_the_other(table: Table) -> Agreement:
    """An agreement of the other room, over the clinic's data in it, in the folder of the one."""
    state(table, room=OTHER)
    return table.propose(room=OTHER)


def test_data_of_another_room_is_not_signed_for(table: Table) -> None:
    """The clinic signs nothing that would release its data of another room, under the title of this one."""
    elsewhere = of_the_other(table)
    for command in ("approve", "show"):
        words = ["--yes"] if command == "approve" else []
        code, out, err = table(command, "--as", "clinic", "--root", table.root, *words)
        assert (code, out) == (4, "")
        assert refusal(table, "room", samples.ROOM, OTHER) in err
        assert "kluis: code: room_changed " in err
    clinic = table.homes["clinic"]
    assert (table.signatures(), clinic.has_signed(elsewhere.hash), clinic.current(OTHER)) == ([], False, "")
    assert lines(table) == b""


def test_nor_is_it_proposed(table: Table) -> None:
    """A proposer signs before it reads what was drafted from the folder: it is of the room that it joined."""
    elsewhere = of_the_other(table)
    clinic = table.homes["clinic"]
    trust = Trust(clinic, [table.root.read_bytes()])
    with pytest.raises(AuthenticityError) as caught:
        approval.sign(Room(table.room.path), clinic, trust, elsewhere)
    assert caught.value.message == refusal(table, "room", samples.ROOM, OTHER)
    with pytest.raises(PolicyError) as other:
        approval.sign(state(table), clinic, trust, elsewhere)
    assert other.value.message == f"agreement: want room {samples.ROOM[:16]}.., got {OTHER[:16]}.."


@pytest.mark.parametrize("field", ["title", "purpose"])
def test_a_proposer_signs_no_title_of_anothers(table: Table, field: str, tmp_path: Path) -> None:
    """Title and purpose of an agreement are the folder's: a proposer signs those that it joined under."""
    state(table, **{field: "The clinic waives every claim"})
    plan, image = tmp_path / "plan.toml", tmp_path / "image"
    code, out, err = table("propose", "--as", "clinic", "--plan", plan, "--image", image)
    assert (code, out) == (4, "")
    want = {"title": "Sample", "purpose": "Tests"}[field]
    assert refusal(table, field, want, "The clinic waives every claim") in err


def seal(table: Table, tmp_path: Path) -> tuple[int, str, str]:
    samples.people().write_parquet(tmp_path / "people.parquet")
    (tmp_path / "people.toml").write_text(TERMS)
    words = ["--as", "clinic", "--dataset", "people", "--terms", tmp_path / "people.toml"]
    return table("seal", tmp_path / "people.parquet", *words)


def test_nothing_is_sealed_for_another_room(table: Table, tmp_path: Path) -> None:
    """Nor does its owner's client sign a line for that room's log, or take a version of its data there."""
    state(table, room=OTHER)
    code, out, err = seal(table, tmp_path)
    assert (code, out) == (4, "")
    assert refusal(table, "room", samples.ROOM, OTHER) in err
    clinic = table.homes["clinic"]
    assert (clinic.next_version(OTHER, "people"), lines(table)) == (2, b"")
    state(table)
    code, out, _ = seal(table, tmp_path)
    assert (code, out.splitlines()[1:]) == (0, ['  room     "Sample"'])
    assert clinic.next_version(samples.ROOM, "people") == 3


def test_nothing_is_sealed_where_no_room_was_joined(table: Table, tmp_path: Path) -> None:
    """A folder that a party joined no room in, as after a move, is named before it is believed."""
    here, there = table.room.path, table.folder / "moved"
    shutil.move(here, there)
    table.room.path = there
    code, _, err = seal(table, tmp_path)
    assert (code, "kluis: code: room_unjoined " in err) == (6, True)
    stated = f"it states to be 'Sample', room {samples.ROOM[:16]}.."
    assert f"{there}: clinic joined no room there, by its own record; {stated}" in err
    assert table.approve("clinic")[0] == 6
    assert table("init", "--as", "clinic")[0] == 0
    assert seal(table, tmp_path)[0] == 0


def test_another_room_is_not_joined_in_its_place(table: Table) -> None:
    """To join again, as a hint may say, does not replace the record by what somebody put there."""
    state(table, room=OTHER)
    code, out, err = table("init", "--as", "clinic")
    assert (code, out) == (4, "")
    assert refusal(table, "room", samples.ROOM, OTHER) in err
    (record,) = table.homes["clinic"].place_paths(table.room.path)
    assert f"if it is a new room, remove {record} and join it" in err
    record.unlink()
    code, out, _ = table("init", "--as", "clinic")
    joined = [f"room {OTHER[:16]}..", '  title    "Sample"', '  purpose  "Tests"']
    assert (code, out.splitlines()[1:-1]) == (0, joined)


def test_a_room_with_the_id_of_another(table: Table, tmp_path: Path) -> None:
    """Nor is a room joined that was made with the id of another of the party's, and another title."""
    theirs = Room.create(tmp_path / "theirs", "Synthetic", "Tests")
    file = msgspec.structs.replace(theirs.file, room=samples.ROOM)
    theirs.folder.replace("room.json", encode(file))
    here, table.room.path = table.room.path, theirs.path
    code, out, err = table("init", "--as", "clinic")
    assert (code, out) == (4, "")
    assert f"{theirs.path}: want title 'Sample', as clinic joined it in {here}, got 'Synthetic'" in err
    assert "join nothing here, and ask who made this folder" in err
    assert table.homes["clinic"].places_at(theirs.path) == ()


def test_a_room_that_was_there_first(table: Table) -> None:
    """Who makes a room with a title does not join one of another title that somebody made before."""
    code, out, err = table("init", "--as", "clinic", "--title", "Mine", "--purpose", "Tests")
    assert (code, out) == (2, "")
    assert f"init: {table.room.path} is a room already: 'Sample', for 'Tests'" in err
    assert table("init", "--as", "clinic", "--title", "Sample", "--purpose", "Tests")[0] == 0


def test_a_new_room_in_an_earlier_ones_folder(table: Table) -> None:
    """A party that makes a room where it had another is in the new one."""
    shutil.rmtree(table.room.path)
    assert table("init", "--as", "clinic", "--title", "New", "--purpose", "Tests")[0] == 0
    assert Room(table.room.path).file.title == "New"
    assert table("init", "--as", "clinic")[0] == 0


@pytest.mark.parametrize("command", ["run", "open", "receipt", "events"])
def test_another_rooms_runs_and_log_are_not_this_ones(table: Table, command: str) -> None:
    """Nothing of another room that the same party is in is shown as this one's."""
    table.room.propose(table.agreement)
    for signature in table.setting.signed().signatures:
        table.room.add_signature(signature)
    state(table, room=OTHER)
    code, out, err = table(command, "--as", "clinic")
    assert (code, out) == ((6, "") if command == "run" else (4, ""))
    if command != "run":  # which first finds that the agreement is not of the room in the folder
        assert refusal(table, "room", samples.ROOM, OTHER) in err


def test_an_agreement_of_another_room_is_not_run_here(table: Table) -> None:
    """A client of two rooms releases no key of one in a folder that it joined as another."""
    elsewhere = of_the_other(table)
    for signature in signed_unchecked(elsewhere, table.homes).signatures:
        table.room.add_signature(signature)
    code, out, err = table("run", "--as", "clinic", "--wait", "1")
    assert (code, out) == (4, "")
    assert refusal(table, "room", samples.ROOM, OTHER) in err


@pytest.mark.parametrize("spoilt", ["moved", "gone"])
def test_a_stop_is_of_the_room_that_was_joined(table: Table, spoilt: str) -> None:
    """Neither another id in the folder, nor none, makes a party stop another room's agreement, or none."""
    assert table.approve("laboratory")[0] == 0
    laboratory, meant = table.homes["laboratory"], table.agreement
    elsewhere = msgspec.structs.replace(meant, room=OTHER, title="Elsewhere")
    laboratory.agree(elsewhere)
    before = lines(table)
    if spoilt == "moved":
        state(table, room=OTHER)
    else:
        (table.room.path / "room.json").unlink()
    code, out, err = table("approve", "--as", "laboratory", "--stop")
    assert (code, out) == (
        0,
        f'laboratory stopped {meant.hash}\n  title    "Sample"\n'
        f'still in force: {elsewhere.hash}\n  title    "Elsewhere"\n',
    )
    assert "the room's folder does not show it, so tell the other parties: " in err
    assert lines(table) == before


def test_a_record_of_a_place_is_ones_own(tmp_path: Path) -> None:
    """Two names of one folder are one place, and another folder is another."""
    home = Home.create(tmp_path / "clinic", "clinic")
    room = Room.create(tmp_path / "room", "Sample", "Tests")
    room.join(home, home.public("The clinic", ("owner",)))
    (tmp_path / "link").symlink_to(tmp_path / "room")
    Room(tmp_path / "link").require_joined(home)
    other = Room.create(tmp_path / "other", "Other", "Tests")
    with pytest.raises(PolicyError) as caught:
        other.require_joined(home)
    assert caught.value.code == "room_unjoined"


def linked(table: Table) -> Room:
    """A party's two rooms in one share; whoever holds it puts a link to one in the other's place."""
    theirs = Room.create(table.folder / "theirs", "Synthetic", "Tests")
    clinic = table.homes["clinic"]
    theirs.join(clinic, clinic.public("The clinic", ("owner",)))
    shutil.move(table.room.path, table.folder / "aside")
    table.room.path.symlink_to(theirs.path)
    return theirs


@pytest.mark.parametrize("command", ["seal", "show", "approve", "init"])
def test_a_link_to_another_room_in_a_rooms_place(table: Table, tmp_path: Path, command: str) -> None:
    """Nothing is sealed for, shown of or joined in another of a party's rooms under this one's name."""
    theirs = linked(table)
    code, out, err = seal(table, tmp_path) if command == "seal" else table(command, "--as", "clinic")
    assert (code, out) == (4, "")
    assert refusal(table, "room", samples.ROOM, theirs.file.room) in err
    assert "somebody replaced room.json, or the folder by a link" in err
    assert table.homes["clinic"].next_version(theirs.file.room, "people") == 1


def test_a_stop_where_a_link_leads_elsewhere(table: Table) -> None:
    """A stop is of the room that the party joined under the name, and not of the one that a link leads to."""
    clinic, meant = table.homes["clinic"], table.agreement
    clinic.agree(meant)
    theirs = linked(table)
    elsewhere = msgspec.structs.replace(meant, room=theirs.file.room, title="Synthetic")
    clinic.agree(elsewhere)
    code, out, _ = table("approve", "--as", "clinic", "--stop")
    assert (code, out) == (
        0,
        f'clinic stopped {meant.hash}\n  title    "Sample"\n'
        f'still in force: {elsewhere.hash}\n  title    "Synthetic"\n',
    )


def test_a_room_joined_by_a_link(tmp_path: Path) -> None:
    """One that a party joined by a link's name is that room under both names, and no other under either."""
    home = Home.create(tmp_path / "clinic", "clinic")
    rooms = [Room.create(tmp_path / name, name, "Tests") for name in ("one", "two")]
    link = tmp_path / "link"
    link.symlink_to(rooms[0].path)
    Room(link).join(home, home.public("The clinic", ("owner",)))
    rooms[0].require_joined(home)
    rooms[1].join(home, home.public("The clinic", ("owner",)))
    link.unlink()
    link.symlink_to(rooms[1].path)
    with pytest.raises(AuthenticityError) as caught:
        Room(link).require_joined(home)
    want, got = rooms[0].file.room, rooms[1].file.room
    assert caught.value.message == f"{link}: want room {want!a}, as clinic joined it in {link}, got {got!a}"


@pytest.mark.parametrize("words", [[], ["--agreement"]])
def test_a_stop_where_a_link_leads_to_itself(table: Table, words: list[str]) -> None:
    """A link to itself in the place of the folder keeps nobody from stopping; other commands refuse it."""
    clinic, meant = table.homes["clinic"], table.agreement
    clinic.agree(meant)
    shutil.move(table.room.path, table.folder / "aside")
    table.room.path.symlink_to(table.room.path)
    code, _, err = table("approve", "--as", "clinic")
    assert (code, "kluis: error: " in err) == (7, True)
    code, out, err = table("approve", "--as", "clinic", "--stop", *words, *[meant.hash for _ in words])
    assert (code, out) == (0, f'clinic stopped {meant.hash}\n  title    "Sample"\n'), err
    assert clinic.has_withdrawn(meant.hash)


@pytest.mark.parametrize("words", [[], ["--agreement"]])
def test_a_stop_in_a_folder_that_does_not_answer(
    table: Table, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """A share whose server never answers keeps nobody from stopping: the command is interrupted after it."""
    clinic, meant = table.homes["clinic"], table.agreement
    clinic.agree(meant)

    def never(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Room, "__init__", never)
    code, out, _ = table("approve", "--as", "clinic", "--stop", *words, *[meant.hash for _ in words])
    assert (code, out) == (130, "")
    assert clinic.has_withdrawn(meant.hash)
