"""The cache is private to the user, and cleans up after builds that were killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.tee.image.build import cache


def test_belongs_to_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies below XDG_CACHE_HOME, mode 0700."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.of_user().path == tmp_path / "kluis"
    assert (tmp_path / "kluis").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_can_write(tmp_path: Path) -> None:
    """A folder that others can write is refused: they could put their own bytecode in."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(0o777)
    with pytest.raises(UnavailableError) as caught:
        cache.at(tmp_path / "c")
    assert caught.value.message == f"{tmp_path}/c: want it writable only by you"
    assert caught.value.hint == "set XDG_CACHE_HOME to your own folder"


def test_what_a_killed_build_left_is_removed(tmp_path: Path) -> None:
    """The next build removes the folders of dead ones, and leaves those of living ones."""
    made = cache.at(tmp_path / "c")
    program = (
        "import os, sys; from pathlib import Path; from kluis.tee.image.build import cache\n"
        "with cache.at(Path(sys.argv[1])).work() as work:\n"
        "    (work / 'x').write_text(''); os.kill(os.getpid(), 9)"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(made.path)],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert len(list(made.scratch.iterdir())) == 1
    with made.work() as living, made.work() as work:
        assert sorted(made.scratch.iterdir()) == sorted([living, work])
    assert list(made.scratch.iterdir()) == []
