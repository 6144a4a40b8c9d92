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
# A new platform, over the same state each time, on a kernel that may claim to have no Landlock: a seccomp
# filter fakes that for this process and its children. Each step is a new enclave: it seals into a file, or
# opens one.
PROGRAM = """
import ctypes, json, struct, sys
from pathlib import Path

image, without, allowed, secret, steps = sys.argv[1:6]
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
from kluis.tee.platform import start
from kluis.tee import places

start.start()
lacks = frozenset(each for each in allowed.split(",") if each)
told = []
try:
    for action, name in json.loads(steps):
        with load(image, insecure_allow_missing=lacks) as enclave:
            missing = json.loads(enclave.launch_configuration)["missing"]
            for policy in ("measurement", "signer"):
                said = {"missing": missing}
                blob = Path(f"{name}-{policy}")
                try:
                    if action == "seal":
                        blob.write_bytes(enclave.keep(secret.encode(), policy))
                    else:
                        said["opened"] = enclave.give(blob.read_bytes()).decode()
                except KluisError as error:
                    said["refused"] = str(error)
                told.append(said)
finally:
    start.stop(places.mine())
print(json.dumps(told))
"""


@pytest.fixture
def own() -> Iterator[Path]:
    """A place for this test's platform."""
    directory = Path(tempfile.mkdtemp(prefix="kluis-lack-", dir="/run" if os.geteuid() == 0 else None))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def test_a_lack_never_opens_what_was_sealed_without_it(
    own: Path, victim_image: Path, tmp_path: Path, allowed: frozenset[str]
) -> None:
    """A launch without a protection does not get the key of a launch that had it, for any recipient."""

    def run(*steps: tuple[str, str], without: str = "") -> list[dict[str, object]]:
        lacks = ",".join({*allowed, *([without] if without else [])})
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(victim_image), without, lacks, SECRET, json.dumps(steps)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            env={**os.environ, "KLUIS_HOME": str(own), "PYTHONPATH": str(SRC.parent)},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    better = sorted(allowed)
    worse = sorted({*allowed, "landlock"})
    assert run(("seal", "better")) == [{"missing": better}] * 2
    # The lacking launch is whole otherwise: what it seals itself it opens.
    *refused, sealed, also, opened, too = run(
        ("open", "better"), ("seal", "worse"), ("open", "worse"), without="landlock"
    )
    assert len(refused) == 2
    for lacking in refused:
        assert lacking["missing"] == worse
        assert "opened" not in lacking
        assert "cannot be opened by this enclave" in str(lacking["refused"])
    assert [sealed, also] == [{"missing": worse}] * 2
    assert [opened, too] == [{"missing": worse, "opened": SECRET}] * 2
    assert run(("open", "better")) == [{"missing": better, "opened": SECRET}] * 2
