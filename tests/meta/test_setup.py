"""Set-up reports what is missing, and is quick if nothing is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.meta.tree import ROOT

SETUP = ROOT / "scripts" / "setup.sh"
PLAIN = ("bash", "dirname", "id", "cat", "sha256sum", "env")


def _setup(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", str(SETUP), *words],
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_another_target_is_refused() -> None:
    """A target that is not one is named, with one that is."""
    done = _setup("everything")
    assert done.returncode == 7
    assert done.stderr == (
        "setup: error: target: want demo, demo-vm, serve, check, test, slow, clients, bench, docs or fuzz,"
        " got everything\n"
        "setup: hint: scripts/setup.sh test\n"
    )


STAMP = ROOT / ".venv" / ".kluis-rooms,services,console,fast,demo,dev"


@pytest.mark.skipif(not STAMP.exists(), reason="not set up by make")
def test_the_second_time_makes_nothing() -> None:
    """If all is set up, set-up makes and installs nothing, and reports at most what the machine does not
    permit.
    """
    _setup("check")
    done = _setup("check")
    assert (done.returncode, done.stdout) == (0, "")
    assert [
        line for line in done.stderr.splitlines() if re.search(r"installing|making|building|error", line)
    ] == []


def test_what_is_missing_is_named_with_the_line_that_gives_it(tmp_path: Path) -> None:
    """Without the right or the means to install, set-up names each missing package, and the one line."""
    for program in PLAIN:
        found = shutil.which(program)
        assert found is not None
        (tmp_path / program).symlink_to(found)
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {sys.base_prefix}/bin/python3 "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    done = _setup("check", "--dry-run", PATH=str(tmp_path), KLUIS_VENV=str(tmp_path / "none"))
    lines = done.stderr.splitlines()
    assert lines[0].startswith("setup: missing system packages: "), done.stderr
    packages = lines[0].removeprefix("setup: missing system packages: ")
    assert "bubblewrap" in packages.split()
    assert not {"gcc", "libc6-dev", "python3-dev"} & set(packages.split())
    assert lines[1:] == [f"setup: hint: sudo apt-get install {packages}"]


def _missing(target: str, folder: Path) -> set[str]:
    """The packages that set-up names on a machine with no tool but those of ``PLAIN``."""
    for program in PLAIN:
        if not (folder / program).exists():
            (folder / program).symlink_to(shutil.which(program) or "")
    (folder / "python3").write_text(f'#!/bin/sh\nexec {sys.base_prefix}/bin/python3 "$@"\n')
    (folder / "python3").chmod(0o755)
    said = _setup(target, "--dry-run", PATH=str(folder), KLUIS_VENV=str(folder / "none")).stderr
    return set(said.splitlines()[0].removeprefix("setup: missing system packages: ").split())


def test_the_slow_tests_have_their_tools(tmp_path: Path) -> None:
    """Set-up for the slow tests requires the tools to boot a guest, CRIU, a browser and containers; that for
    the others does not.
    """
    assert _missing("slow", tmp_path) - _missing("test", tmp_path) == {
        "buildah",
        "chromium",
        "criu",
        "debootstrap",
        "mmdebstrap",
        "ovmf",
        "podman",
        "qemu-system-x86",
        "seabios",
    }
    line = '@HYPOTHESIS_PROFILE=full MARKS="slow or hypothesis" PY=$(PY) scripts/test.sh'
    assert f"scripts/setup.sh slow\n\t{line} -n " in (ROOT / "Makefile").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can be somebody else")
def test_a_checkout_of_somebody_elses() -> None:
    """A user who cannot write a checkout or run its Python gets advice to use a private one, and nothing is
    tried.
    """
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which is closed to others
        checkout = Path(folder)
        checkout.chmod(0o755)
        (checkout / "scripts").mkdir()
        shutil.copy(SETUP, checkout / "scripts")
        for name in ("pyproject.toml", "native/a.c", "runtime/build.py", "src/kluis/__init__.py"):
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            (checkout / name).touch()
        (checkout / ".venv" / "bin").mkdir(parents=True)
        (checkout / ".venv" / "bin" / "kluis").touch(0o755)
        done = subprocess.run(
            ["/bin/bash", str(checkout / "scripts" / "setup.sh"), "demo"],
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            user=65534,
            group=65534,
            extra_groups=(),
        )
    assert done.returncode == 7, done.stderr
    assert "want a checkout that nobody may write, got one that it may not" in done.stderr
    assert "making a Python environment" not in done.stderr


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    """A python3 that the runtime is not built for is refused with what to do about it."""
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = _setup("test", PATH=f"{tmp_path}:{os.environ['PATH']}", PYTHON="")
    assert done.returncode == 7
    assert done.stderr == (
        "setup: error: python: want 3.11 or 3.13, got Python 3.9.2\n"
        "setup: hint: put one of them first on the PATH as python3, or PYTHON=/path/to/python3 make test\n"
    )


def test_continuous_integration_runs_the_tests() -> None:
    """.ci/run stops at the first error and runs make test, and make test begins with make check."""
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    assert "make test" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "\ntest: check" in (ROOT / "Makefile").read_text()


RACE = """
import os, shutil, sys, zipfile
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
import build
cache = Path(sys.argv[2])
with zipfile.ZipFile(cache / "zig.whl", "w") as wheel:
    wheel.writestr("ziglang/zig", "the compiler")
replace = os.replace
def beaten(source, target):
    shutil.copytree(source, target)  # another build is a moment earlier
    replace(source, target)
os.replace = beaten
print(build.compiler_of(cache / "zig.whl", cache).read_text())
"""


def test_two_first_builds_of_the_runtime(tmp_path: Path) -> None:
    """Both unpack the compiler; the later one takes the earlier one's."""
    line = [sys.executable, "-c", RACE, str(ROOT / "runtime"), str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.stdout == "the compiler\n", done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [
        path.parent.name for path in tmp_path.glob("zig-*/zig")
    ]


APT = """
import hashlib, os, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
import inputs
mirror = Path(sys.argv[2])
main = mirror / "dists/trixie/main"
(main / "binary-amd64").mkdir(parents=True)
(main / "binary-amd64/Packages").touch()
(mirror / "dists/trixie/Release").write_text(
    "Suite: trixie\\nCodename: trixie\\nDate: Thu, 01 Jan 2026 00:00:00 UTC\\nSHA256:\\n"
    f" {hashlib.sha256(b'').hexdigest()} 0 main/binary-amd64/Packages\\n"
    f" {'0' * 64} 99 main/Contents-amd64\\n"  # of another moment than the mirror's file
)
(main / "Contents-amd64").write_text("usr/bin/python3 python\\n")
WANTS = 'Acquire::IndexTargets::deb::Contents-deb { MetaKey "$(COMPONENT)/Contents-$(ARCHITECTURE)";' \\
    ' ShortDescription "Contents"; Description "Contents"; };'
run = inputs._run
def as_with_apt_file(command, environment, folder):
    with Path(environment["APT_CONFIG"]).open("a") as file:
        file.write(WANTS)
    listed = Path(environment["APT_CONFIG"]).with_name("sources.list")
    line = listed.read_text().splitlines()[0]
    keyring = next(word for word in line.replace("]", " ").split() if word.startswith("signed-by="))
    listed.write_text(line.replace(keyring, "trusted=yes") + "\\n")
    return run(command, environment, folder)
inputs._run = as_with_apt_file
inputs.KEYRINGS = (Path(sys.executable),)
os.environ["KLUIS_DEBIAN_MIRROR"] = f"file:{mirror}"
with inputs._apt("trixie"):
    print("updated")
"""


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt-get on this machine")
def test_a_machine_with_apt_file(tmp_path: Path) -> None:
    """The runtime's build fetches only lists of packages, and not the lists of files that apt-file needs."""
    line = [sys.executable, "-c", APT, str(ROOT / "runtime"), str(tmp_path / "mirror")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.stdout == "updated\n", done.stderr
