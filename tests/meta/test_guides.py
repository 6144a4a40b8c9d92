"""The guides are run: their files are written, their commands are typed, and each ends as the page says.

They are run with the wheels that people install, not with the checkout.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.tee.process import linux, native
from tests.meta import installed
from tests.meta.tree import DOCS, ROOT

FILE = re.compile(r"```(?:python|toml|text) title=\"([^\"]+)\"\n(.*?)```", re.DOTALL)
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
EXITS = re.compile(r"\s+# exits (\d+)$")
HEAP_BYTES = 512 << 20


def _run(line: str, folder: Path) -> None:
    """Type one line into a shell, and hold its exit code to what the page says, else 0."""
    says = EXITS.search(line)
    want = int(says.group(1)) if says else 0
    # What else a guide types, such as mkdocs, is in the environment of the tests.
    path = f"{folder / 'venv/bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", EXITS.sub("", line)],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == want, f"$ {line}\n{done.stdout}{done.stderr}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to follow a guide in, and a platform of its own, which is stopped at the end."""
    try:
        native.guardian()
    except UnavailableError as lack:
        pytest.skip(lack.message)
    if lacks := sorted(linux.missing(HEAP_BYTES)):
        pytest.skip(f"the guides are for a machine that lacks nothing: {lacks[0]} {linux.FIXES[lacks[0]]}")
    monkeypatch.setenv("KLUIS_HOME", str(tmp_path / "home"))
    programs = installed.borrowed(tmp_path)
    where = subprocess.run(
        [str(programs / "python"), "-c", "import kluis; print(kluis.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert where.startswith(str(tmp_path)), where
    yield tmp_path
    _run("kluis platform stop", tmp_path)


def _follow(name: str, folder: Path) -> None:
    page = (DOCS / "guides" / name).read_text()
    for title, text in FILE.findall(page):
        (folder / title).parent.mkdir(parents=True, exist_ok=True)
        (folder / title).write_text(text)
    for block in CONSOLE.findall(page):
        for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
            _run(line.replace("KLUIS/", f"{ROOT}/"), folder)


def test_the_first_guides_do_what_they_say(folder: Path) -> None:
    """Following the first guides, one after the other in one folder, works to the letter."""
    _follow("first-enclave.md", folder)
    _follow("develop.md", folder)
    _follow("verify-a-quote.md", folder)
    _follow("verify.md", folder)
    _follow("tcb-recovery.md", folder)


@pytest.mark.slow
def test_the_clean_room_guide_does_what_it_says(folder: Path) -> None:
    """Following the guide of the clean room works to the letter, with libraries that pip fetches."""
    _follow("clean-room.md", folder)


@pytest.mark.slow
def test_the_guide_of_serving_does_what_it_says(folder: Path) -> None:
    """Following the guide of serving inside works to the letter, with libraries that pip fetches."""
    _follow("serve-inside.md", folder)


@pytest.mark.slow
def test_the_guide_of_key_release_does_what_it_says(folder: Path) -> None:
    """Following the guide of key release works to the letter, with Azure's own clients."""
    _follow("secure-key-release.md", folder)


@pytest.mark.slow
def test_the_guide_of_the_attestation_service_does_what_it_says(folder: Path) -> None:
    """Following the guide of the attestation service works to the letter, with Azure's own clients."""
    _follow("first-enclave.md", folder)
    _follow("attestation-service.md", folder)


@pytest.mark.slow
def test_the_guide_of_running_services_does_what_it_says(folder: Path) -> None:
    """Following the guide of running the services works to the letter."""
    _follow("serve.md", folder)


@pytest.mark.slow
def test_the_guide_of_keeping_services_does_what_it_says(folder: Path) -> None:
    """A backup of services and platform, taken and brought back as the page says, serves again."""
    _follow("operate.md", folder)
    assert (folder / "where").read_text() == f"{folder / 'home' / 'state'}\n"
