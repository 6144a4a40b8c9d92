"""The stream of a room's events: new lines only, bounded, and ended with the console."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kluis.console import rooms
from tests.cleanroom import logs
from tests.console.site import Case


def take(case: Case, after: int, count: int, *, say: bool = False) -> list[str]:
    """The first messages of a stream; a line is written after its beginning if ``say``."""
    site = case.site()

    async def run() -> list[str]:
        found: list[str] = []
        stream = rooms._rows(site.console, case.room, after)
        async for each in stream:
            if each.startswith(":"):
                if say:
                    logs.say(case.room, case.homes["clinic"], "result.opened", "by-sex.1")
            else:
                found.append(each)
            if len(found) == count:
                site.console.ending = True
        assert site.console.streams == 0
        return found

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_lines_after_one_that_was_seen(tmp_path: Path) -> None:
    """A page that has four lines gets the fifth and sixth, numbered, each on one line of its message."""
    found = take(Case(tmp_path), 4, 2)
    assert [each.split("\n")[:2] for each in found] == [["id: 5", "event: line"], ["id: 6", "event: line"]]
    for each in found:
        assert each.count("\n") == 4
        assert "agreement." in each


def test_a_new_line(tmp_path: Path) -> None:
    """A line that is written later is sent, and nothing else."""
    (found,) = take(Case(tmp_path), 6, 1, say=True)
    assert found.startswith("id: 7\nevent: line\ndata: <tr><td>7</td>")
    assert "by-sex.1" in found


def test_a_changed_log(tmp_path: Path) -> None:
    """A log that does not verify is a problem, and no line of it is sent."""
    case = Case(tmp_path)
    lines = logs.lines(case.room)
    logs.put(case.room, [*lines[:3], lines[2], *lines[4:]])
    (found,) = take(case, 0, 1)
    assert found.startswith('event: problem\ndata: <div class="note bad" role="alert">')
    assert "events.jsonl line 4" in found


@pytest.mark.parametrize("after", ["", "-1", "x", "1" * 20, "\u0661", "1.5"])
def test_a_place_that_is_none(tmp_path: Path, after: str) -> None:
    """A stream begins after the number of a line."""
    case = Case(tmp_path)
    room = f"/rooms/{case.room.file.room}/events/stream"
    answer = case.site().send("GET", room, params={"after": after})
    assert (answer.status_code, "want the number of a line" in answer.text) == (400, True)


def test_streams_are_bounded(tmp_path: Path) -> None:
    """More than 16 open streams are refused."""
    case = Case(tmp_path)
    site = case.site()
    site.console.streams = rooms.MOST_STREAMS
    answer = site.get(f"/rooms/{case.room.file.room}/events/stream?after=0")
    assert (answer.status_code, "want at most 16 open pages" in answer.text) == (503, True)
