"""Counters go up, are kept before they are told, and say that nobody witnesses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.errors import FormatError, PolicyError
from kluis.tee.platform import counters, keyfiles
from kluis.tee.platform.counters import Counters


def test_up_and_kept(tmp_path: Path) -> None:
    """Every increment is on disk when it is answered; another object reads it."""
    path = tmp_path / "counters.json"
    mine = Counters(path)

    assert mine.read("owner", bytes(32)) == (0, "unwitnessed")
    assert mine.increment("owner", bytes(32)) == (1, "unwitnessed")
    assert mine.increment("owner", bytes(32)) == (2, "unwitnessed")
    assert Counters(path).read("owner", bytes(32)) == (2, "unwitnessed")


def test_owners_are_apart(tmp_path: Path) -> None:
    """One owner's counter is not another's, of the same name."""
    mine = Counters(tmp_path / "counters.json")
    mine.increment("one", bytes(32))

    assert mine.read("two", bytes(32))[0] == 0


def test_bounded(tmp_path: Path) -> None:
    """An owner has at most 256 counters."""
    mine = Counters(tmp_path / "counters.json")
    for number in range(counters.MOST_EACH):
        mine.increment("owner", number.to_bytes(32, "big"))

    with pytest.raises(PolicyError, match="want at most 256 for one product, got one more"):
        mine.increment("owner", b"\xff" * 32)


@pytest.mark.parametrize("content", [b"[]", b'{"a":"b"}', b'{"a":1', b'{"a": 1}'])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    """A file that this did not write is refused, not taken for an empty one."""
    keyfiles.write(tmp_path / "counters.json", content)

    with pytest.raises(FormatError):
        Counters(tmp_path / "counters.json")
