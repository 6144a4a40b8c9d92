"""A host that starts an enclave with less protection than before, to get at what it sealed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.meta.tree import SRC

SECRET = "what the better protected launch sealed"
# A platform of its own, over the same state each time, on a kernel that may answer that it has no
# Landlock: a seccomp filter says so for it, to this process and everything that it starts.
PROGRAM = """
import ctypes, json, struct, sys
from pathlib import Path

image, action, blob, without, allowed = sys.argv[1:6]
if without == "landlock":
    program = struct.pack("HBBI", 0x20, 0, 0, 0) + struct.pack("HBBI", 0x15, 0, 1, 444)
    program += struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | 38) + struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    held = ctypes.create_string_buffer(program)
    given = struct.pack("HxxxxxxQ", 4, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, given, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

from kluis.errors import KluisError
from kluis.host import load
from kluis.tee.platform import places, start

start.start()
said = {}
try:
    lacks = frozenset(each for each in allowed.split(",") if each)
    with load(image, insecure_allow_missing=lacks) as enclave:
        said["missing"] = json.loads(enclave.launch_configuration)["missing"]
        if action == "seal":
            Path(blob).write_bytes(enclave.keep(sys.argv[6].encode(), sys.argv[7]))
        else:
            said["opened"] = enclave.give(Path(blob).read_bytes()).decode()
except KluisError as error:
    said["refused"] = str(error)
finally:
    start.stop(places.mine())
print(json.dumps(said))
"""


@pytest.fixture
def own() -> Iterator[Path]:
    """A place for this test's platform."""
    directory = Path(tempfile.mkdtemp(prefix="kluis-lack-", dir="/run" if os.geteuid() == 0 else None))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("policy", ["measurement", "signer"])
def test_a_lack_never_opens_what_was_sealed_without_it(
    own: Path, victim_image: Path, tmp_path: Path, allowed: frozenset[str], policy: str
) -> None:
    """A launch that lacks a protection does not get the key of a launch that had it."""

    def run(action: str, blob: str, without: str = "") -> dict[str, object]:
        program = (sys.executable, "-c", PROGRAM, str(victim_image))
        lacks = ",".join({*allowed, *([without] if without else [])})
        done = subprocess.run(
            [*program, action, str(tmp_path / blob), without, lacks, SECRET, policy],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "KLUIS_HOME": str(own), "PYTHONPATH": str(SRC.parent)},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    better = sorted(allowed)
    worse = sorted({*allowed, "landlock"})
    assert run("seal", "better") == {"missing": better}
    assert run("open", "better") == {"missing": better, "opened": SECRET}
    lacking = run("open", "better", "landlock")
    assert lacking["missing"] == worse
    assert "opened" not in lacking
    assert "cannot be opened by this enclave" in str(lacking["refused"])
    # The lacking launch is whole otherwise: what it seals itself it opens.
    assert run("seal", "worse", "landlock") == {"missing": worse}
    assert run("open", "worse", "landlock") == {"missing": worse, "opened": SECRET}
