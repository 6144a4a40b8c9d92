"""A folder that others write, too, on a disk that is full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FULL = """
import resource, sys
from pathlib import Path
from kluis.cleanroom.records.folder import Folder
from kluis.errors import UnavailableError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    getattr(Folder(Path(sys.argv[1])), sys.argv[2])("room.json", bytes(100_000))
except UnavailableError as error:
    print(error.message)
"""


@pytest.mark.parametrize("how", ["create", "replace"])
def test_nothing_is_left_of_what_cannot_be_written(tmp_path: Path, how: str) -> None:
    """A part of a file would be read as the whole; a folder with a part of ``room.json`` would be no room."""
    line = [sys.executable, "-c", FULL, str(tmp_path), how]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}/room.json: cannot be written: File too large\n"
    assert list(tmp_path.iterdir()) == []
