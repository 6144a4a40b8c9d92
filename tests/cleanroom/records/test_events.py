"""Every change of a room's log is detected, except at its end; and it is read within bounds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from kluis.cleanroom.agreement.documents import decode, encode
from kluis.cleanroom.records import events
from kluis.cleanroom.records.events import Event, Kind, Line
from kluis.cleanroom.records.home import Home
from kluis.errors import AuthenticityError, FormatError, KluisError, UnavailableError
from tests.cleanroom import logs, samples


class Log(NamedTuple):
    """Six lines of two parties, by turns."""

    path: Path
    homes: dict[str, Home]

    def keys(self, actor: str) -> tuple[bytes, ...]:
        return (self.homes[actor].signing.public,) if actor in self.homes else ()

    def append(self, party: str, subject: str, kind: Kind = "key.released", room: str = samples.ROOM) -> int:
        return events.append(self.path, room, self.homes[party], kind, subject, samples.NOW)

    def read(self, room: str = samples.ROOM) -> tuple[Event, ...]:
        return events.read(self.path, room, self.keys)

    def lines(self) -> list[bytes]:
        return self.path.read_bytes().split(b"\n")[:-1]

    def write(self, lines: list[bytes]) -> None:
        self.path.write_bytes(b"".join(line + b"\n" for line in lines))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    names = ("clinic", "laboratory")
    made = Log(
        tmp_path / "events.jsonl", {name: Home.create(tmp_path / "homes" / name, name) for name in names}
    )
    for number in range(6):
        made.append(names[number % 2], f"run{number}")
    return made


def refusal(log: Log) -> tuple[type[KluisError], str, str]:
    with pytest.raises(KluisError) as caught:
        log.read()
    return type(caught.value), caught.value.code, caught.value.message


def test_reads_back(log: Log) -> None:
    """Events come back in order, with who said them, where and when."""
    found = log.read()
    assert [(each.actor, each.subject) for each in found][:3] == [
        ("clinic", "run0"),
        ("laboratory", "run1"),
        ("clinic", "run2"),
    ]
    assert {(each.room, each.time) for each in found} == {(samples.ROOM, samples.NOW)}


def changed(lines: list[bytes]) -> None:
    line = decode(lines[2], Line, "line")
    event = line.event.replace(b"run2", b"run9")
    lines[2] = encode(Line(event=event, signature=line.signature))


def removed(lines: list[bytes]) -> None:
    del lines[2]


def swapped(lines: list[bytes]) -> None:
    lines[2], lines[3] = lines[3], lines[2]


def repeated(lines: list[bytes]) -> None:
    lines.insert(3, lines[2])


def beheaded(lines: list[bytes]) -> None:
    del lines[0]


@pytest.mark.parametrize(
    ("change", "number", "problem"),
    [
        (changed, 3, "want a signature by clinic over these bytes, got one by no party so far"),
        (removed, 3, "want previous HASH2, got HASH3"),
        (swapped, 3, "want previous HASH2, got HASH3"),
        (repeated, 4, "want previous HASH3, got HASH2"),
        (beheaded, 1, "want previous 0000000000000000.., got HASH1"),
    ],
)
def test_changed(log: Log, change: Callable[[list[bytes]], None], number: int, problem: str) -> None:
    """A line changed, taken out, moved or repeated is found out at its place."""
    lines = log.lines()
    for each, line in enumerate(lines, 1):
        problem = problem.replace(f"HASH{each}", f"{events.sha256(line).hex()[:16]}..")
    change(lines)
    log.write(lines)
    code = "signature" if change is changed else "event"
    assert refusal(log) == (AuthenticityError, code, f"events.jsonl line {number}: {problem}")


def test_a_stranger(log: Log) -> None:
    """A line by a stranger to the room is refused."""
    del log.homes["laboratory"]
    message = "events.jsonl line 2: want a party of the room, got laboratory"
    assert refusal(log) == (AuthenticityError, "event", message)


def test_in_anothers_name(log: Log) -> None:
    """A line that one party signs in another's name is refused, with the real signer's name."""
    lines = log.lines()
    lines[3] = logs.resigned(lines[3], by=log.homes["clinic"])
    log.write(lines)
    message = "events.jsonl line 4: want a signature by laboratory over these bytes, got one by clinic"
    assert refusal(log) == (AuthenticityError, "signature", message)


def test_of_another_room(log: Log) -> None:
    """The same parties' log of another room, complete and signed, is refused."""
    assert len(log.read()) == 6
    with pytest.raises(AuthenticityError) as caught:
        log.read(room="8e" * 32)
    assert (caught.value.code, caught.value.message) == (
        "event",
        "events.jsonl line 1: want room 8e8e8e8e8e8e8e8e.., got 7f7f7f7f7f7f7f7f..",
    )


def test_a_line_of_another_room_that_follows(log: Log) -> None:
    """A line signed for another room that would follow here is refused."""
    log.append("clinic", "elsewhere", room="8e" * 32)
    message = "events.jsonl line 7: want room 7f7f7f7f7f7f7f7f.., got 8e8e8e8e8e8e8e8e.."
    assert refusal(log) == (AuthenticityError, "event", message)


def test_a_second_key(log: Log) -> None:
    """A party that two agreements name with a key each may have signed with either."""
    old = log.homes["clinic"]
    log.homes["clinic"] = Home.create(log.path.parent / "new" / "clinic", "clinic")
    log.append("clinic", "later")
    assert refusal(log)[1] == "signature"
    both = {**{name: [home.signing.public] for name, home in log.homes.items()}}
    both["clinic"].append(old.signing.public)
    assert len(events.read(log.path, samples.ROOM, both.__getitem__)) == 7


def test_a_cut_end_is_not_seen(log: Log) -> None:
    """What is cut off at the end is not missed: this is what a ledger adds."""
    log.write(log.lines()[:3])
    assert len(log.read()) == 3


@pytest.mark.parametrize(
    ("data", "code", "problem"),
    [
        (b"", "truncated", ": want at least one line, got none"),
        (b"\n", "bad_encoding", " line 1 at 0x0: is not JSON: Expecting value"),
        (b"\xff\n", "bad_encoding", " line 1 at 0x0: is not UTF-8"),
        (b"{}\n", "malformed", " line 1: object missing required field `event`"),
        (b"[" * 8000 + b"\n", "too_deep", " line 1: nested more than 32 deep"),
        (b"A" * 8193, "too_large", " line 1: want at most 8192 bytes, got more"),
        (b"A" * 8193 + b"\n", "too_large", " line 1: want at most 8192 bytes, got more"),
        (b"A" * 8192, "truncated", " line 1: want a line feed at its end, got the file's end"),
    ],
    ids=["empty", "blank", "not UTF-8", "nothing", "deep", "long", "long line", "no end"],
)
def test_what_is_no_log(log: Log, data: bytes, code: str, problem: str) -> None:
    """Malformed lines are refused by number, with the expected form."""
    log.path.write_bytes(data)
    assert refusal(log) == (FormatError, code, f"events.jsonl{problem}")


def test_ends_of_lines_that_are_none(log: Log) -> None:
    """Only a line feed ends a line: other line separators are ordinary bytes."""
    log.path.write_bytes(log.path.read_bytes().replace(b"\n", b"\r\n"))
    assert refusal(log)[:2] == (FormatError, "bad_encoding")


@pytest.mark.parametrize("left", [1, 100, 300])
def test_a_last_line_without_its_end(log: Log, left: int) -> None:
    """A log whose end is torn off within a line is refused, until the next line replaces it."""
    whole = log.path.read_bytes()
    start = len(whole) - len(log.lines()[5]) - 1
    log.path.write_bytes(whole[: start + left])
    message = "events.jsonl line 6: want a line feed at its end, got the file's end"
    assert refusal(log) == (FormatError, "truncated", message)
    assert log.append("clinic", "later") == left
    assert [each.subject for each in log.read()] == ["run0", "run1", "run2", "run3", "run4", "later"]
    assert log.append("clinic", "last") == 0


def test_a_log_that_is_one_torn_line(log: Log) -> None:
    """If nothing is left but a part of the first line, the log begins again."""
    log.path.write_bytes(b"no line")
    assert log.append("clinic", "later") == 7
    assert [each.subject for each in log.read()] == ["later"]


def test_a_torn_end_that_is_no_line(log: Log) -> None:
    """What is longer than a line at the end is not removed, and no line is written after it."""
    log.path.write_bytes(log.path.read_bytes() + b"A" * 8193)
    before = log.path.read_bytes()
    with pytest.raises(FormatError) as caught:
        log.append("clinic", "later")
    assert caught.value.code == "too_large"
    assert log.path.read_bytes() == before


@pytest.mark.usefixtures("little_memory")
def test_a_log_of_any_size(log: Log) -> None:
    """A log longer than any may be is neither read nor written on."""
    os.truncate(log.path, 1 << 40)
    message = f"{log.path}: want at most {events.MAX_BYTES} bytes, got more"
    assert refusal(log) == (FormatError, "too_large", message)
    with pytest.raises(FormatError):
        log.append("clinic", "later")
    assert log.path.stat().st_size == 1 << 40


def test_a_full_log(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for which there is no room is not written: what is there stays readable."""
    monkeypatch.setattr(events, "MAX_BYTES", log.path.stat().st_size + 100)
    with pytest.raises(FormatError) as caught:
        log.append("clinic", "later")
    assert caught.value.code == "too_large"
    assert len(log.read()) == 6


def test_a_last_line_of_any_length(log: Log) -> None:
    """Nothing is written after a line that is longer than any may be."""
    with log.path.open("ab") as file:
        file.write(b"A" * 8193 + b"\n")
    with pytest.raises(FormatError) as caught:
        log.append("clinic", "later")
    assert caught.value.code == "too_large"


@pytest.mark.parametrize("kind", ["link", "fifo", "nothing"])
def test_something_else_in_its_place(log: Log, kind: str) -> None:
    """A link is not followed, neither to read nor to write, and a FIFO not waited for."""
    other = log.path.parent / "other"
    log.path.rename(other)
    before = other.read_bytes()
    if kind == "link":
        log.path.symlink_to(other)
    elif kind == "fifo":
        os.mkfifo(log.path)
    assert refusal(log)[:2] == (UnavailableError, "unavailable")
    if kind != "nothing":
        with pytest.raises(UnavailableError):
            log.append("clinic", "later")
    assert other.read_bytes() == before


def test_two_at_once(log: Log) -> None:
    """Lines of many clients at once are one chain."""

    def write(number: int) -> None:
        log.append("clinic", f"at-once{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(24)))
    assert len(log.read()) == 30


def test_one_who_holds_it(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that locks the log endlessly does not block clients endlessly, and readers not at all."""
    monkeypatch.setattr(events, "_PATIENCE_SECONDS", 0.1)
    with log.path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UnavailableError) as caught:
            log.append("clinic", "later")
        assert caught.value.message == f"{log.path}: waited 0.1 s for another who writes it"
        assert len(log.read()) == 6


def test_a_share_without_locks(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share that knows no locks is written to all the same."""

    def refuses(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuses)
    log.append("clinic", "later")
    assert len(log.read()) == 7


def test_a_full_disk(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that the disk took a part of is taken back whole."""
    before, write = log.path.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    with pytest.raises(UnavailableError):
        log.append("clinic", "later")
    assert log.path.read_bytes() == before

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UnavailableError) as caught:
        log.append("clinic", "later")
    assert caught.value.message == f"{log.path}: cannot be written: No space left on device"
    assert log.path.read_bytes() == before
