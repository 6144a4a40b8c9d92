"""The room's record: whoever changes it is found out, but for its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.cleanroom import events
from kluis.cleanroom.home import Home
from kluis.errors import AuthenticityError, KluisError
from tests.cleanroom import samples


@pytest.fixture
def record(tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    homes = [Home.create(tmp_path / name, name) for name in ("clinic", "laboratory")]
    path = tmp_path / "events.jsonl"
    for number in range(6):
        events.append(path, homes[number % 2], "key.released", f"run{number}", samples.NOW)
    return path, {home.party: home.signing.public for home in homes}


def test_reads_back(record: tuple[Path, dict[str, bytes]]) -> None:
    """Events come back in order, with who said them."""
    found = events.read(*record)
    assert [(each.actor, each.subject) for each in found][:3] == [
        ("clinic", "run0"),
        ("laboratory", "run1"),
        ("clinic", "run2"),
    ]


@pytest.mark.parametrize("change", ["remove", "swap", "repeat", "byte"])
def test_changed(record: tuple[Path, dict[str, bytes]], change: str) -> None:
    """A line taken out, moved, repeated or changed is found out."""
    path, keys = record
    lines = path.read_bytes().splitlines()
    if change == "remove":
        del lines[2]
    elif change == "swap":
        lines[2], lines[3] = lines[3], lines[2]
    elif change == "repeat":
        lines.insert(3, lines[2])
    else:
        lines[2] = lines[2].replace(b'"event":"', b'"event":"A', 1)
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(KluisError):
        events.read(path, keys)


def test_a_stranger(record: tuple[Path, dict[str, bytes]]) -> None:
    """A line by somebody who is no party is refused."""
    path, keys = record
    del keys["laboratory"]
    with pytest.raises(AuthenticityError) as caught:
        events.read(path, keys)
    assert caught.value.message == "event 1: laboratory is no party"


def test_a_cut_end_is_not_seen(record: tuple[Path, dict[str, bytes]]) -> None:
    """What is cut off at the end is not missed: this is what a ledger adds."""
    path, keys = record
    path.write_bytes(b"\n".join(path.read_bytes().splitlines()[:3]) + b"\n")
    assert len(events.read(path, keys)) == 3
