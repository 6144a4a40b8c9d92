"""Files are replaced whole, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kluis.errors import KluisError
from kluis.tee.image import files


def test_replaced_whole(tmp_path: Path) -> None:
    """The new bytes are there at once, readable, and no other file is left."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with files.replacing(path) as f:
        f.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["a"]


def test_left_alone_on_failure(tmp_path: Path) -> None:
    """An exception on the way leaves the old bytes and nothing else."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as f:
        f.write(bytes(1 // (len(b"new") - 3)))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_kill_leaves_nothing(tmp_path: Path) -> None:
    """A writer killed half way leaves no file: what it wrote had no name yet."""
    program = (
        "import os, sys; from pathlib import Path; from kluis.tee.image import files\n"
        "with files.replacing(Path(sys.argv[1])) as f:\n"
        "    f.write(b'x' * 100000); f.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a")],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == -9
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["nowhere/a", "folder"])
def test_what_cannot_be_written(tmp_path: Path, name: str) -> None:
    """A folder that is not there, or a folder in its place, is one of our errors."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(KluisError), files.replacing(tmp_path / name) as f:
        f.write(b"x")
    assert os.listdir(tmp_path) == ["folder"]
