"""The kluis layer: what may run inside, whole, and nothing that starts or judges an enclave from outside."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kluis
from kluis.tee.image.build import inside

LAYER = {file.path: file for file in inside.layer()}
OURS = sorted(path for path in LAYER if path.startswith("kluis/") and path.endswith(".py"))


def test_what_is_outside_stays_outside() -> None:
    """The platform, the host, the command line and what runs services from outside are not in an image."""
    rooms = {path.split("/")[1].removesuffix(".py") for path in LAYER if path.startswith("kluis/")}
    assert {"errors", "files", "frozen", "hashes", "formats", "enclave", "services"} <= rooms
    assert rooms & {"tee", "host", "cli", "testing", "console"} == set()
    assert {path for path in LAYER if path.startswith(("kluis/serve", "kluis/serve/store"))} == set()


@pytest.mark.parametrize("path", OURS)
def test_what_it_imports_is_with_it(path: str) -> None:
    """No module of the layer imports one of Kluis that is left outside."""
    named = set()
    for node in ast.walk(ast.parse(LAYER[path].read())):
        if isinstance(node, ast.Import):
            named |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            named |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    assert {name for name in named if _outside(name)} == set()


def _outside(name: str) -> bool:
    """Whether a dotted name is a module of Kluis as installed here, and not of the layer."""
    root, path = Path(kluis.__file__).parent.parent, name.replace(".", "/")
    files = {f"{path}.py", f"{path}/__init__.py"} - LAYER.keys()
    return name.split(".")[0] == "kluis" and any((root / file).is_file() for file in files)


def test_nothing_of_who_installed_it() -> None:
    """Of a distribution's records, only its own metadata goes in."""
    names = {path.split("/")[1] for path in LAYER if ".dist-info/" in path}
    assert "METADATA" in names
    assert names <= {"METADATA", "entry_points.txt", "top_level.txt", "licenses", "sboms"}
    assert [path for path in LAYER if path.endswith((".pyc", ".pth"))] == []


def test_imports_by_itself(tmp_path: Path) -> None:
    """With only the bare standard library, the enclave's side imports, and reads its versions."""
    for path, file in LAYER.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(file.read())
    code = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "import kluis.enclave, kluis.enclave.runtime.main, kluis.evidence\n"
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
