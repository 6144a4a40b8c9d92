"""Counters go up, are kept before they are told, and say that nobody witnesses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.errors import PolicyError, UsageError
from kluis.tee.platform import counters
from kluis.tee.platform.counters import Counters


def test_up_and_kept(tmp_path: Path) -> None:
    """Every increment is on disk when it is answered; another object reads it."""
    path = tmp_path / "counters"
    mine = Counters(path)

    assert mine.read("owner", bytes(32)) == (0, "unwitnessed", b"")
    assert mine.increment("owner", bytes(32)) == (1, "unwitnessed", b"")
    assert mine.increment("owner", bytes(32)) == (2, "unwitnessed", b"")
    assert Counters(path).read("owner", bytes(32)) == (2, "unwitnessed", b"")


def test_owners_are_apart(tmp_path: Path) -> None:
    """One owner's counter is not another's, of the same name."""
    mine = Counters(tmp_path / "counters")
    mine.increment("one", bytes(32))

    assert mine.read("two", bytes(32))[0] == 0


def test_bounded(tmp_path: Path) -> None:
    """An owner has at most 256 counters."""
    mine = Counters(tmp_path / "counters")
    for number in range(counters.MOST_EACH):
        mine.increment("owner", number.to_bytes(32, "big"))

    with pytest.raises(PolicyError, match="want at most 256 for one product, got one more"):
        mine.increment("owner", b"\xff" * 32)


def test_all_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform has at most so many counters, whoever's they are, and says that it is its bound."""
    monkeypatch.setattr(counters, "MOST", 2)
    mine = Counters(tmp_path / "counters")
    for owner in ("one", "two"):
        mine.increment(owner, bytes(32))

    with pytest.raises(PolicyError, match="want at most 2 for a platform, got one more"):
        mine.increment("three", bytes(32))
    assert mine.increment("one", bytes(32))[0] == 2


def test_advances_with_a_mark(tmp_path: Path) -> None:
    """It goes forward to any value, keeps the mark of whoever was there first, and never goes back."""
    path = tmp_path / "counters"
    mine = Counters(path)

    assert mine.advance("owner", bytes(32), 7, b"first") == (7, "unwitnessed", b"first")
    assert mine.advance("owner", bytes(32), 7, b"second") == (7, "unwitnessed", b"first")
    assert mine.advance("owner", bytes(32), 6, b"back") == (7, "unwitnessed", b"first")
    assert Counters(path).read("owner", bytes(32)) == (7, "unwitnessed", b"first")
    assert mine.increment("owner", bytes(32)) == (8, "unwitnessed", b"")
    assert Counters(path).read("owner", bytes(32)) == (8, "unwitnessed", b"")


@pytest.mark.parametrize(
    ("to", "mark", "message"),
    [
        (0, b"", "counter.to: want 1..9007199254740991, got 0"),
        (1 << 53, b"", "counter.to: want 1..9007199254740991, got 9007199254740992"),
        (1, bytes(33), "counter.mark: want at most 32 bytes, got 33"),
    ],
)
def test_advances_within_bounds(tmp_path: Path, to: int, mark: bytes, message: str) -> None:
    """A value or mark out of bounds is refused, and nothing is written."""
    mine = Counters(tmp_path / "counters")

    with pytest.raises(UsageError) as refused:
        mine.advance("owner", bytes(32), to, mark)
    assert refused.value.message == message
    assert Counters(tmp_path / "counters").read("owner", bytes(32)) == (0, "unwitnessed", b"")


def test_advancing_makes_no_more_counters(tmp_path: Path) -> None:
    """The bound on an owner's counters holds for those that are advanced too."""
    mine = Counters(tmp_path / "counters")
    for number in range(counters.MOST_EACH):
        mine.advance("owner", number.to_bytes(32, "big"), 1, b"")

    with pytest.raises(PolicyError, match="want at most 256 for one product, got one more"):
        mine.advance("owner", b"\xff" * 32, 1, b"")
