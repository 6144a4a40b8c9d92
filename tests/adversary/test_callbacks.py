"""Callbacks from C, and random numbers from a file: what libraries need, without a hole in the walls."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kluis.errors import RemoteError
from kluis.host.proxy import EnclaveProxy
from kluis.tee.image.build import interpreter
from kluis.tee.process import native


def test_c_calls_python_without_writable_code(victim: EnclaveProxy) -> None:
    """Callbacks work with no memory that is written and then run; those that are gone make room."""
    assert victim.sort_by_callback([3, 1, 2, -7, 5]) == [-7, 1, 2, 3, 5]
    assert victim.callbacks(3000) == [3000, 3000]
    assert victim.callbacks(16000) == [16000, 16000]


def test_too_many_callbacks(victim: EnclaveProxy) -> None:
    """More callbacks at once than there are stubs is an error of that call, and no other."""
    with pytest.raises(RemoteError, match=r"^MemoryError"):
        victim.callbacks(17000)
    assert victim.callbacks(10) == [10, 10]


def test_random_numbers_of_a_file(victim: EnclaveProxy) -> None:
    """/dev/urandom is there for libraries that know nothing else, and is different each time."""
    assert len(first := victim.random_file(64)) == 64
    assert first != victim.random_file(64)


def test_random_numbers_of_the_hosts(tmp_path: Path) -> None:
    """A host's file cannot replace /dev/urandom: the launcher checks the device number."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    base, chosen = tmp_path / "base", tmp_path / "urandom"
    interpreter.write(base, interpreter.base())
    for make in (
        lambda: chosen.write_bytes(bytes(4096)),
        lambda: os.mknod(chosen, 0o20666, os.makedev(1, 5)),
    ):
        chosen.unlink(missing_ok=True)
        try:
            make()
        except PermissionError:
            continue  # an ordinary user makes no devices
        assert started_with(base, chosen) == "kluis-launcher: /dev/urandom: refused"
    assert "/dev/urandom" not in started_with(base, Path("/dev/urandom"))


def started_with(base: Path, random: Path) -> str:
    """The last words of a launcher that finds this file, and a Python without modules, at its start."""
    line = ["bwrap", "--unshare-pid", "--setenv", "LD_LIBRARY_PATH", "/k/python/lib"]
    line += ["--ro-bind", str(native.guardian()), "/k/guardian"]
    line += ["--ro-bind", str(base), "/k/python", "--dev-bind", "/dev/null", "/dev/null"]
    line += ["--dev-bind", str(random), "/dev/urandom", "--", "/k/guardian", "0", "0", str(64 << 20)]
    line += ["secret-memory,guardian", "/k/python/bin/kluis-launcher", "/nowhere", str(64 << 20), "8"]
    line += ["secret-memory,mdwe,landlock", "d", "x", "/"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    return done.stderr.strip().splitlines()[-1]
