"""``kluis room events``: a room's log for people and machines, what it proves, and the error for each
mistake.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import pytest

from kluis.cleanroom.agreement.agreement import Agreement, sign
from kluis.cleanroom.records.events import Event, Kind
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.keyring import Word
from kluis.cleanroom.records.rooms import Room
from kluis.cli import main
from kluis.cli.main import run
from kluis.cli.room import room_events
from tests.cleanroom import logs, samples
from tests.cleanroom.samples import Setting
from tests.formats.hostile import hostile
from tests.pace import within


class Said(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


class Place(NamedTuple):
    """A room of two parties with an agreement, and a reader of its log."""

    room: Room
    agreement: Agreement
    setting: Setting
    homes: Path
    look: Callable[..., Said]

    def look_as(self, party: str, *rest: str) -> Said:
        return self.look(str(self.room.path), "--as", party, "--home", str(self.homes), *rest)


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command is built once for all that a test tries."""
    monkeypatch.setattr(main, "load", functools.cache(main.load))


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    def look(*words: str) -> Said:
        code = run(["room", "events", *words])
        return Said(code, *capsys.readouterr())

    setting = samples.setting(tmp_path / "homes")
    return Place(*logs.agreed_room(tmp_path / "room", setting), setting, tmp_path / "homes", look)


def test_for_people(place: Place) -> None:
    """A table of 80 columns at most, and one line of what it proves."""
    said = place.look_as("laboratory")
    room, agreement = place.room.file.room[:16], place.agreement.hash[:16]
    *lines, closing = said.out.splitlines()
    assert (said.code, said.err) == (0, "")
    assert lines == [
        "    time (UTC)           who         what                to what",
        "ok  2026-11-24 12:00:00  clinic      party.joined        clinic",
        "ok  2026-11-24 12:00:00  laboratory  party.joined        laboratory",
        "ok  2026-11-24 12:00:00  clinic      dataset.sealed      people.v1",
        "ok  2026-11-24 12:00:00  laboratory  dataset.sealed      labs.v1",
        f"ok  2026-11-24 12:00:00  clinic      agreement.proposed  {agreement}..",
        f"ok  2026-11-24 12:00:00  laboratory  agreement.signed    {agreement}..",
    ]
    assert closing == (
        f"proves who signed these 6 lines of room {room}, by the keys of agreement {agreement}, and"
        " the order in which they were added; does not prove that the log is complete, because anyone"
        " with write access to the folder can truncate it, or that a line or its time is true"
    )


def test_for_machines(place: Place) -> None:
    """JSON has each line whole, and on whose word its key is its actor's."""
    said = place.look_as("clinic", "--json")
    value = json.loads(said.out)
    assert said.code == 0
    assert (value["room"], value["agreements"]) == (place.room.file.room, [place.agreement.hash])
    assert value["unproven"] == []
    assert [(each["line"], each["kind"], each["word"]) for each in value["events"]][4:] == [
        (5, "agreement.proposed", "agreement"),
        (6, "agreement.signed", "agreement"),
    ]
    assert value["events"][4]["subject"] == place.agreement.hash


def test_before_an_agreement(place: Place, tmp_path: Path) -> None:
    """Before a party signed one, it knows its own lines; others' are marked, and the command exits with 6."""
    room = Room.create(tmp_path / "young", "Young", "Tests")
    for name, home in place.setting.homes.items():
        room.join(home, home.public(name, ("owner",)))
        logs.say(room, home, "party.joined", name)
    said = place._replace(room=room).look_as("clinic")
    _, mine, others, closing = said.out.splitlines()
    assert (said.code, said.err) == (6, "")
    assert (mine.split()[0], others.split()[0]) == ("ok", "note")
    assert closing == (
        f"proves who signed the lines marked ok of room {room.file.room[:16]}, by the keys of clinic's"
        " own record, and the order in which they were added; does not prove that the log is"
        " complete, because anyone with write access to the folder can truncate it, or that a line or"
        " its time is true; proves nothing of laboratory: only the folder contains the key, so anyone"
        " with write access to it could have written the lines"
    )


def test_one_whom_no_line_is_by(place: Place, tmp_path: Path) -> None:
    """To a party that has signed nothing, and of whom there is no line, a log proves nothing."""
    Home.create(place.homes / "auditor", "auditor")
    said = place.look_as("auditor")
    assert said.code == 6
    assert said.out.splitlines()[-1] == (
        f"proves nothing in room {place.room.file.room[:16]} of clinic, laboratory: only the folder"
        " contains the key, so anyone with write access to it could have written the lines"
    )


def test_one_who_joined_since(place: Place, tmp_path: Path) -> None:
    """A party that joins after the agreement does not prevent reading the log, and is marked."""
    eve = Home.create(tmp_path / "eve", "eve")
    place.room.join(eve, eve.public("Eve", ("owner",)))
    logs.say(place.room, eve, "party.joined", "eve")
    logs.say(place.room, place.setting.homes["clinic"], "dataset.sealed", "people.v2")
    said = place.look_as("clinic")
    assert said.code == 6
    assert [line.split()[0] for line in said.out.splitlines()[1:-1]] == [*["ok"] * 6, "note", "ok"]


def test_by_an_agreement(place: Place) -> None:
    """A reader with an agreement's hash needs no keys."""
    room = str(place.room.path)
    said = place.look(room, "--agreement", place.agreement.hash)
    assert (said.code, "agreement " + place.agreement.hash[:16] in said.out) == (0, True)
    said = place.look(room, "--agreement", "00" * 32)
    assert (said.code, said.out) == (4, "")
    assert said.err.splitlines()[0] == (
        f"kluis: error: room: want agreement {'0' * 16}.., got {place.agreement.hash[:16]}.."
    )


def test_by_one_agreement_of_several(place: Place) -> None:
    """A party's record has all that it signed; with one of them named, only its keys count."""
    later = msgspec.structs.replace(place.agreement, created=samples.NOW + (samples.LATER - samples.NOW) / 2)
    place.setting.homes["clinic"].agree(later)
    said = place.look_as("clinic", "--json")
    assert json.loads(said.out)["agreements"] == [place.agreement.hash, later.hash]
    assert "by the keys of 2 agreements" in place.look_as("clinic").out
    said = place.look_as("clinic", "--agreement", place.agreement.hash, "--json")
    assert json.loads(said.out)["agreements"] == [place.agreement.hash]


def test_in_the_rooms_folder(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of a room, it is that room's."""
    monkeypatch.chdir(place.room.path)
    assert place.look("--as", "clinic", "--home", str(place.homes)).code == 0


def test_mistakes(place: Place, tmp_path: Path) -> None:
    """Each mistake has the exit code of its kind, and a message with the expected value."""
    room, homes = str(place.room.path), str(place.homes)
    cases: list[tuple[list[str], int, str]] = [
        ([room], 2, "want a party or an agreement whose keys to use, got neither"),
        ([room, "--as", "eve", "--home", homes], 7, "party eve: no keys in"),
        ([str(tmp_path), "--as", "clinic", "--home", homes], 7, "is not a room"),
    ]
    for words, code, message in cases:
        said = place.look(*words)
        assert (said.code, said.out) == (code, ""), said.err
        assert message in said.err
        assert "kluis: hint: " in said.err
    (place.room.path / "events.jsonl").unlink()
    said = place.look_as("clinic")
    assert (said.code, said.out) == (7, "")
    assert "events.jsonl: cannot be opened: No such file or directory" in said.err


def test_no_line_is_wider_than_a_terminal() -> None:
    """Whatever the names, the table fits 80 columns, and of a name nothing is left out."""
    names = ("a", "clinic", "hospital-north-of-the-river-" + "x" * 30, "z" * 63)
    subjects = ("", "people.v1", "ab" * 32, "by-sex." + "ab" * 8, "s" * 128)
    for kind, name, subject in itertools.product(get_args(Kind), names, subjects):
        event = Event(
            kind=kind, room="7f" * 32, time=samples.NOW, actor=name, subject=subject, previous="00" * 32
        )
        for word in get_args(Word):
            head, *rows = room_events.table([event], {name: word}).split("\n")
            assert max(map(len, [head, *rows])) <= 80
            who, what, to_what = (head.index(each) for each in ("who", "what", "to what"))
            assert "".join(row[who:what].strip() for row in rows) == name
            assert "".join(row[to_what:].strip() for row in rows)[:13] == subject[:13]
            assert "".join(row[to_what:].strip() for row in rows) == subject or len(subject) == 64


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_something_else_in_its_place(place: Place, kind: str) -> None:
    """Neither a link is followed nor a FIFO waited for."""
    path = place.room.path / "events.jsonl"
    path.rename(path.with_suffix(".old"))
    if kind == "link":
        path.symlink_to(path.with_suffix(".old"))
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    said = place.look_as("clinic")
    assert (said.code, said.out) == (7, "")
    assert said.err.startswith(f"kluis: error: {path}: want a regular file, got ")


@pytest.mark.parametrize(("size", "forms"), [(100_000, 1), pytest.param(1 << 20, 3, marks=pytest.mark.slow)])
def test_hostile_logs(place: Place, little_memory: None, size: int, forms: int) -> None:
    """Any hostile log is refused at once, in text that a terminal can show.

    It is hostile as a whole, from a line on, or within a line: each in turn, or all of it.
    """
    path = place.room.path / "events.jsonl"
    good = path.read_bytes()
    for turn, (what, data) in enumerate(hostile(size)):
        whole = (data, good + data, good[:-1] + data)
        for log in (whole[(turn + more) % 3] for more in range(forms)):
            path.write_bytes(log)
            with within(1.5, what):
                said = place.look_as("clinic")
            assert (said.code in (3, 4), said.out) == (True, ""), (what, said)
            assert "events.jsonl line " in said.err, what
            assert "Traceback" not in said.err, what
            assert len(said.err) < 1000, what
            assert all(line.isprintable() for line in said.err.split("\n")), what


def test_what_each_command_says(place: Place) -> None:
    """The commands of a room write what this one reads."""
    found: Any = json.loads(place.look_as("clinic", "--json").out)["events"]
    homes = ("--home", str(place.homes))
    words = ["room", "approve", str(place.room.path), "--as", "laboratory", "--stop", *homes]
    assert run(words) == 0
    place.look_as("clinic")
    after = json.loads(place.look_as("clinic", "--json").out)["events"]
    assert after[:-1] == found
    assert (after[-1]["kind"], after[-1]["actor"]) == ("agreement.stopped", "laboratory")


def test_a_key_for_an_agreement_that_is_not_whole(place: Place) -> None:
    """By a hash, an agreement that not all have signed is refused."""
    later = msgspec.structs.replace(place.agreement, title="Later")
    place.room.propose(later)
    place.room.add_signature(sign(later, "clinic", place.setting.homes["clinic"].signing))
    said = place.look(str(place.room.path), "--agreement", later.hash)
    assert said.code == 6
    assert "want a signature of every party, missing ['laboratory']" in said.err
