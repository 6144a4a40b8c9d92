"""The kluis layer: what may run inside, whole, and nothing that starts or judges an enclave from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kluis.tee.image import inside

LAYER = {file.path: file for file in inside.layer()}


def test_what_is_outside_stays_outside() -> None:
    """The platform, the host, the command line and what runs services from outside are not in an image."""
    rooms = {path.split("/")[1].removesuffix(".py") for path in LAYER if path.startswith("kluis/")}
    assert {"errors", "frozen", "hashes", "formats", "enclave", "services"} <= rooms
    assert rooms & {"tee", "host", "cli", "testing", "console"} == set()
    assert {
        path for path in LAYER if path.startswith(("kluis/services/running", "kluis/services/storage"))
    } == set()


def test_nothing_of_who_installed_it() -> None:
    """Of a distribution's records, only what it says of itself goes in."""
    names = {path.split("/")[1] for path in LAYER if ".dist-info/" in path}
    assert "METADATA" in names
    assert names <= {"METADATA", "entry_points.txt", "top_level.txt", "licenses", "sboms"}
    assert [path for path in LAYER if path.endswith((".pyc", ".pth"))] == []


def test_imports_by_itself(tmp_path: Path) -> None:
    """With the bare standard library beside it, the enclave's side imports, and reads its versions."""
    for path, file in LAYER.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(file.read())
    code = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "import kluis.enclave, kluis.enclave.runtime, kluis.evidence\n"
        "import importlib.metadata, cryptography\n"
        "print(importlib.metadata.version('cryptography') == cryptography.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={},
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
