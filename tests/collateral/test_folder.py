"""Files of a folder that is private to its owner."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kluis.collateral import folder
from kluis.errors import UnavailableError
from tests.meta.tree import SRC


@pytest.mark.parametrize(("mode", "whole"), [(0o600, True), (0o644, True), (0o620, False), (0o602, False)])
def test_what_others_may_write_is_not_there(tmp_path: Path, mode: int, whole: bool) -> None:
    """A file that its group, or anybody, may write is ignored; others' read access is harmless."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(mode)
    assert folder.read(path, 9) == (b"x" if whole else None)


@pytest.mark.parametrize("away", [1, -1])
def test_anothers_file_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: int) -> None:
    """A file that another user made is ignored."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + away)
    assert folder.read(path, 9) is None


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """What is no file is not there, and is not opened as if somebody were to write to it."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert folder.read(tmp_path / "pipe", 9) is None


def test_a_long_file_is_cut(tmp_path: Path) -> None:
    """One byte more than the most tells that a file is longer, and no more is read."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert (folder.read(path, 4), folder.read(path, 10)) == (b"01234", b"0123456789")


def test_bundles_are_read_where_nothing_can_be_held() -> None:
    """A system without locks of files verifies with what it is given: only keeping needs them."""
    program = "import sys; sys.modules['fcntl'] = None; import kluis.appraisal, kluis.collateral.bundle"
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": str(SRC.parent)})


def test_a_folder_is_held_by_its_owner(tmp_path: Path) -> None:
    """A locked folder is created if missing, private to its owner; so is the lock file."""
    path = tmp_path / "one" / "other"
    for _ in range(2):
        with folder.alone(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
            assert stat.S_IMODE((path / folder.LOCK).stat().st_mode) == 0o600
    (path / folder.LOCK).unlink()
    (path / folder.LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnavailableError), folder.alone(path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_whose_file_cannot_be_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without locks is reported as one that cannot be written, and nothing is left open."""

    def refuses(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuses)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(UnavailableError, match="No locks available"), folder.alone(tmp_path):
        pass
    assert len(os.listdir("/proc/self/fd")) == len(before)
