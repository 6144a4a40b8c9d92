"""Counters go up, are stored before they are reported, and state that they have no witness."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from kluis.errors import PolicyError, UsageError
from kluis.formats.encoding import jcs
from kluis.hashes import sha256
from kluis.tee.platform.root import counters, slots
from kluis.tee.platform.root.counters import Counters


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

    with pytest.raises(PolicyError, match="want at most 256 for one product of one user, got one more"):
        mine.increment("owner", b"\xff" * 32)


def test_all_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform has at most so many counters, of all owners, and reports that limit."""
    monkeypatch.setattr(counters, "MOST", 2)
    mine = Counters(tmp_path / "counters")
    for owner in ("one", "two"):
        mine.increment(owner, bytes(32))

    with pytest.raises(PolicyError, match="want at most 2 for a platform, got one more"):
        mine.increment("three", bytes(32))
    assert mine.increment("one", bytes(32))[0] == 2


def test_one_user_leaves_counters_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many products a user signs, the next user finds counters; so it is after a restart."""
    monkeypatch.setattr(counters, "MOST", 8)
    mine = Counters(tmp_path / "counters")
    got = []
    for user in (1001, 1002, 1003):
        count = 0
        with contextlib.suppress(PolicyError):
            while count < 8:
                mine.increment(f"{user} {count}", bytes(32), user)
                count += 1
        got.append(count)
        mine = Counters(tmp_path / "counters")

    assert got == [4, 2, 1]
    with pytest.raises(PolicyError, match="want at most 3 for one user, got one more"):
        mine.advance("another", bytes(32), 1, b"", 1001)
    assert mine.increment("1001 0", bytes(32), 1002)[0] == 2
    assert mine.increment("root's", bytes(32), 0)[0] == 1


def test_one_user_leaves_counters_of_a_product_for_others(tmp_path: Path) -> None:
    """A user who starts one image again and again does not keep another user's from starting."""
    mine = Counters(tmp_path / "counters")
    for number in range(counters.MOST_EACH):
        mine.increment("product", number.to_bytes(32, "big"), 1001)

    with pytest.raises(PolicyError, match="want at most 256 for one product of one user, got one more"):
        mine.increment("product", b"\xff" * 32, 1001)
    assert mine.increment("product", b"\xff" * 32, 1002)[0] == 1


def test_a_counter_of_before_there_were_users(tmp_path: Path) -> None:
    """A record without a user is read, and is root's."""
    mine = Counters(tmp_path / "counters")
    mine.increment("owner", bytes(32), 1001)
    body = jcs.dumps({"mark": "", "name": "owner/" + "00" * 32, "value": 5})
    filled = (len(body).to_bytes(2, "big") + body).ljust(slots.SLOT - 32, b"\0")
    with (tmp_path / "counters").open("r+b") as file:
        file.write(sha256(filled) + filled)

    assert Counters(tmp_path / "counters").read("owner", bytes(32))[0] == 5


def test_advances_with_a_mark(tmp_path: Path) -> None:
    """It goes forward to any value, keeps the mark of the first writer, and never goes back."""
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

    with pytest.raises(PolicyError, match="want at most 256 for one product of one user, got one more"):
        mine.advance("owner", b"\xff" * 32, 1, b"")
