"""An attacker with a room's folder changes its log: detected, except at its end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from kluis.cleanroom.agreement.agreement import Agreement, sign
from kluis.cleanroom.agreement.documents import decode, encode
from kluis.cleanroom.records.events import Line
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.rooms import Room
from kluis.cli.main import run
from kluis.hashes import sha256
from tests.cleanroom import logs, samples
from tests.cleanroom.samples import Setting


class Held(NamedTuple):
    """A room's folder controlled by an attacker, and what the clinic sees of its log."""

    room: Room
    agreement: Agreement
    setting: Setting
    mallory: Home
    told: Callable[..., tuple[int, str, str]]


@pytest.fixture
def held(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Held:
    setting = samples.setting(tmp_path / "homes")
    room, agreement = logs.agreed_room(tmp_path / "room", setting)

    def told(*words: str) -> tuple[int, str, str]:
        code = run(
            ["room", "events", str(room.path), "--as", "clinic", "--home", str(tmp_path / "homes"), *words]
        )
        return (code, *capsys.readouterr())

    assert told()[0] == 0
    return Held(room, agreement, setting, Home.create(tmp_path / "mallory", "mallory"), told)


def refused(held: Held, line: int, problem: str, code: str = "event") -> None:
    """The clinic sees no line, and which one is wrong."""
    exit_code, out, err = held.told()
    assert (exit_code, out) == (4, "")
    assert err.splitlines()[0] == f"kluis: error: events.jsonl line {line}: {problem}"
    assert f"kluis: code: {code} " in err


def short(line: bytes) -> str:
    return f"{sha256(line).hex()[:16]}.."


def test_a_line_changed(held: Held) -> None:
    """A word of a line that a party signed is another's."""
    lines = logs.lines(held.room)
    event = encode(msgspec.structs.replace(logs.event_of(lines[3]), subject="labs.v2"))
    lines[3] = encode(Line(event=event, signature=decode(lines[3], Line, "line").signature))
    logs.put(held.room, lines)
    refused(
        held, 4, "want a signature by laboratory over these bytes, got one by no party so far", "signature"
    )


def test_a_line_taken_from_the_middle(held: Held) -> None:
    """A line is missing, and the next one shows it."""
    lines = logs.lines(held.room)
    logs.put(held.room, lines[:2] + lines[3:])
    refused(held, 3, f"want previous {short(lines[1])}, got {short(lines[2])}")


def test_two_lines_swapped(held: Held) -> None:
    """Two lines changed places."""
    lines = logs.lines(held.room)
    logs.put(held.room, [*lines[:2], lines[3], lines[2], *lines[4:]])
    refused(held, 3, f"want previous {short(lines[1])}, got {short(lines[2])}")


def test_a_line_by_a_stranger(held: Held) -> None:
    """A line by an author who is nowhere else in the folder."""
    logs.say(held.room, held.mallory, "result.opened", "by-sex")
    refused(held, 7, "want a party of the room, got mallory")


def test_a_stranger_with_a_file(held: Held) -> None:
    """A stranger who also put a key in the folder is never marked ok, and the answer is no."""
    held.room.join(held.mallory, held.mallory.public("Mallory", ("owner",)))
    logs.say(held.room, held.mallory, "result.opened", "by-sex")
    code, out, _ = held.told()
    assert code == 6
    assert out.splitlines()[-2].startswith("note ")
    assert "proves nothing of mallory: only the folder contains the key" in out


def test_a_line_signed_with_another_partys_key(held: Held) -> None:
    """One party signed in another's name, at the end of a chain that it goes on correctly."""
    lines = logs.lines(held.room)
    clinic = held.setting.homes["clinic"]
    forged = logs.resigned(lines[5], clinic, kind="agreement.stopped", previous=sha256(lines[5]).hex())
    logs.put(held.room, [*lines, forged])
    refused(held, 7, "want a signature by laboratory over these bytes, got one by clinic", "signature")


def test_a_partys_key_replaced_in_the_folder(held: Held, tmp_path: Path) -> None:
    """A new key under a party's name is not trusted by a signer of the agreement."""
    usurper = Home.create(tmp_path / "usurper" / "laboratory", "laboratory")
    (held.room.path / "parties" / "laboratory.json").unlink()
    held.room.join(usurper, usurper.public("The laboratory", ("owner", "recipient")))
    logs.say(held.room, usurper, "agreement.stopped", held.agreement.hash)
    refused(
        held, 7, "want a signature by laboratory over these bytes, got one by no party so far", "signature"
    )


def test_an_agreement_of_their_own(held: Held, tmp_path: Path) -> None:
    """An agreement that puts new keys in everyone's place, signed by all of these, is not the clinic's."""
    theirs = samples.setting(tmp_path / "theirs")
    room, _ = logs.agreed_room(tmp_path / "forged", theirs)
    shutil.copyfile(held.room.path / "room.json", room.path / "room.json")
    room = Room(room.path)
    forged = msgspec.structs.replace(theirs.agreement, room=room.file.room)
    room.propose(forged)
    for name, home in theirs.homes.items():
        room.add_signature(sign(forged, name, home.signing))
    logs.put(room, [])
    for name, home in theirs.homes.items():
        logs.say(room, home, "party.joined", name)
    shutil.rmtree(held.room.path)
    room.path.rename(held.room.path)
    refused(held, 1, "want a signature by clinic over these bytes, got one by no party so far", "signature")


def test_the_log_of_another_room(held: Held, tmp_path: Path) -> None:
    """The same parties' log of another room, with every line signed by them, is in this one."""
    other, _ = logs.agreed_room(tmp_path / "other", held.setting)
    logs.put(held.room, logs.lines(other))
    refused(held, 1, f"want room {held.room.file.room[:16]}.., got {other.file.room[:16]}..")


def test_the_name_of_another_room(held: Held, tmp_path: Path) -> None:
    """With its ``room.json``, a party that joined this one sees no line; an agreement's hash pins this one.

    To a party that did not join it there, it is that room, and is called so.
    """
    other, _ = logs.agreed_room(tmp_path / "other", held.setting)
    logs.put(held.room, logs.lines(other))
    shutil.copyfile(other.path / "room.json", held.room.path / "room.json")
    code, out, err = held.told()
    assert (code, out) == (4, "")
    here, room = held.room.path, held.room.file.room
    assert f"want room '{room}', as clinic joined it in {here}, got '{other.file.room}'" in err
    held.setting.homes["clinic"].place_paths(held.room.path)[0].unlink()
    code, out, _ = held.told()
    assert (code, f"of room {other.file.room[:16]}" in out) == (0, True)
    code, out, err = held.told("--agreement", held.agreement.hash)
    assert (code, out) == (4, "")
    assert f"room: want {held.room.file.room[:16]}.., " in err


def test_an_end_cut_off(held: Held) -> None:
    """What is cut off at the end is not missed: not kept out, and said with every log."""
    logs.put(held.room, logs.lines(held.room)[:5])
    code, out, _ = held.told()
    assert code == 0
    assert SAID in out


def test_an_end_cut_off_before_a_line(held: Held) -> None:
    """Nor is what was cut off before somebody added a line, though it is missing in the middle then."""
    before = logs.lines(held.room)
    logs.put(held.room, before[:4])
    logs.say(held.room, held.setting.homes["clinic"], "run.finished", "later")
    assert len(logs.lines(held.room)) == 5
    code, out, _ = held.told()
    assert code == 0
    assert "none before them is missing" not in out
    assert SAID in out


SAID = (
    "does not prove that the log is complete, because anyone with write access to the folder can truncate it"
)
