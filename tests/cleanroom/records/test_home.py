"""A party's own folder: private, written whole, and each thing in it once."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from kluis.cleanroom.agreement.exchange import ReleaseStatement
from kluis.cleanroom.records.home import DataKey, Home, Secrets, write_once
from kluis.errors import PolicyError, UnavailableError, UsageError
from tests.cleanroom import samples


def statement(run: str) -> ReleaseStatement:
    return ReleaseStatement(
        kind="kluis-release/1",
        agreement="aa" * 32,
        run=run,
        party="clinic",
        time=samples.NOW,
        evidence="bb" * 32,
        level="process",
        rules=(),
        keys=(),
    )


def test_keys_are_not_shown() -> None:
    """Neither a party's private keys nor a data set's key are in what is shown of them."""
    key = DataKey(room="aa" * 32, dataset="d", version=2, terms="bb" * 32, parts=(), key=b"K" * 32)
    assert repr(key) == "DataKey('d', 2)"
    assert repr(Secrets(party="clinic", signing=b"S" * 32, sealing=b"E" * 32)) == "Secrets('clinic')"


def test_keys_stay(tmp_path: Path) -> None:
    """A home is opened with the keys it was made with; a second one is not made over it."""
    made = Home.create(tmp_path / "clinic", "clinic")
    assert Home(tmp_path / "clinic").signing.public == made.signing.public
    with pytest.raises(UsageError):
        Home.create(tmp_path / "clinic", "clinic")


def test_private(tmp_path: Path) -> None:
    """Files are private to their user, and keys that others can read are refused, with the fix."""
    home = Home.create(tmp_path / "clinic", "clinic")
    home.accept_root("aa" * 32)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in home.path.rglob("*") if path.is_file()}
    assert modes == {0o600}
    (home.path / "keys.json").chmod(0o640)
    with pytest.raises(UnavailableError) as caught:
        Home(home.path)
    assert caught.value.message == f"{home.path}/keys.json: want it readable only by its owner, got mode 0640"
    assert caught.value.hint == f"chmod 600 {home.path}/keys.json"


def test_no_home(tmp_path: Path) -> None:
    """A party without keys gets a hint how to create some."""
    with pytest.raises(UnavailableError) as caught:
        Home(tmp_path / "clinic")
    assert caught.value.hint == (
        "if clinic has keys elsewhere, name their folder, as then: --home DIR;"
        " for new keys: kluis room init ROOM --as clinic"
    )


def test_once_under_a_race(tmp_path: Path) -> None:
    """Of many clients at once that would use the last run, one does."""
    home = Home.create(tmp_path / "clinic", "clinic")

    def release(number: int) -> bool:
        try:
            home.record_release(statement(f"{number:064x}"), 3)
        except PolicyError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(release, range(24))) == 3
    assert len(home.releases("aa" * 32)) == 3


def test_one_release_a_run(tmp_path: Path) -> None:
    """A run that has its keys does not get them again."""
    home = Home.create(tmp_path / "clinic", "clinic")
    home.record_release(statement("00" * 32), 5)
    with pytest.raises(PolicyError) as caught:
        home.record_release(msgspec.structs.replace(statement("00" * 32), evidence="cc" * 32), 5)
    assert caught.value.message == "release: run 0000000000000000 has its keys"


def test_write_once(tmp_path: Path) -> None:
    """A file that is there is not replaced, and no half of one is left."""
    write_once(tmp_path / "x" / "y", b"one")
    with pytest.raises(FileExistsError):
        write_once(tmp_path / "x" / "y", b"two")
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["y"]
    assert (tmp_path / "x" / "y").read_bytes() == b"one"
