"""Libraries that cannot be measured: not now is not never."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

from kluis import measured

WITHOUT_DESCRIPTORS = """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
try:
    measured.check_library(path)
except OSError as error:
    found = error.errno
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(found, flush=True)
measured.check_library(path)
print("loaded")
"""
ABSENT = """
import os
os.rename(path, path + ".hidden")
measured.check_library(path)
os.rename(path + ".hidden", path)
print("absent", flush=True)
measured.check_library(path)
print("loaded")
"""


def run(folder: Path, code: str, data: bytes = b"another library") -> subprocess.CompletedProcess[str]:
    """Run code with ``path``, a file that is not the measured one."""
    path = folder / "lib.so"
    path.write_bytes(data)
    head = "import sys\nfrom kluis import measured\npath = sys.argv[1]\n"
    head += "measured.ROOT = path.removesuffix('lib.so')\nmeasured._files[path.encode()] = b'0' * 64\n"
    line = [sys.executable, "-c", head + code, str(path)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_a_library_is_measured_at_the_next_try(tmp_path: Path) -> None:
    """With no descriptor left a library is not loaded, and the next import measures it."""
    done = run(tmp_path, WITHOUT_DESCRIPTORS)
    assert done.stdout.split() == [str(errno.EMFILE)]
    assert done.returncode == measured.CHANGED


def test_a_library_that_comes_later_is_measured(tmp_path: Path) -> None:
    """A library that was hidden at its first import is measured at the second."""
    done = run(tmp_path, ABSENT)
    assert done.stdout.split() == ["absent"]
    assert done.returncode == measured.CHANGED
