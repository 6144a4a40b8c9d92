"""The guides are run: their files are written, their commands are typed, and each ends as the page states.

They are run with the wheels that people install, not with the checkout.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.tee.process import linux, native
from tests.meta import installed
from tests.meta.tree import DOCS, ROOT
from tests.tee.vm.machine import guest

FILE = re.compile(r"```(?:python|toml|text) title=\"([^\"]+)\"\n(.*?)```", re.DOTALL)
CONSOLE = re.compile(r"```console(?:| title=\"(another|a third) terminal\")\n(.*?)```", re.DOTALL)
EXITS = re.compile(r"\s+# exits (\d+)$")
PORT = re.compile(r"((?:127\.0\.0\.1|localhost)(?::|\", )|--port )(\d{4,5})\b")
IN_A_ROW = 6
"""At most so many services listen on consecutive ports."""
HEAP_BYTES = 512 << 20


def _path(folder: Path) -> str:
    """Where a guide's programs are; what else it types, such as mkdocs, is where the tests run."""
    return f"{folder / 'venv/bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"


def _run(line: str, folder: Path) -> None:
    """Type one line into a shell, and compare its exit code with the page's, else 0."""
    says = EXITS.search(line)
    want = int(says.group(1)) if says else 0
    done = subprocess.run(
        ["bash", "-c", EXITS.sub("", line)],
        cwd=folder,
        env={**os.environ, "PATH": _path(folder)},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == want, f"$ {line}\n{done.stdout}{done.stderr}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to follow a guide in, and a separate platform, which is stopped at the end."""
    try:
        native.guardian()
    except UnavailableError as lack:
        pytest.skip(lack.message)
    if lacks := sorted(linux.missing(HEAP_BYTES)):
        pytest.skip(f"the guides are for a machine that lacks nothing: {lacks[0]} {linux.FIXES[lacks[0]]}")
    monkeypatch.setenv("KLUIS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KLUIS_CONFIG", str(tmp_path / "config"))
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


class OtherTerminal:
    """Another terminal in the same folder: one program at a time, and the keys that end it.

    Attributes:
        program: what runs in it, or ran last.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.program: subprocess.Popen[bytes] | None = None
        name = name.replace(" ", "-")
        self.shown, self.errors = folder / f"{name}-terminal.out", folder / f"{name}-terminal.err"

    def type(self, line: str) -> None:
        """Start a program, and wait until it has printed something; or press ``^C`` or ``^D``, and wait."""
        if line in ("^C", "^D"):
            self.end(line)
            return
        assert line.startswith("$ "), line
        with self.shown.open("wb") as out, self.errors.open("wb") as errors:
            self.program = subprocess.Popen(
                ["bash", "-c", line.removeprefix("$ ")],
                cwd=self.folder,
                env={**os.environ, "PATH": _path(self.folder)},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
        until, size = time.monotonic() + 900, -1
        while size <= 0 or size != self.shown.stat().st_size:  # it prints once it is ready, and all of that
            size = self.shown.stat().st_size
            assert self.program.poll() is None, f"{line}\n{self.errors.read_text()}"
            assert time.monotonic() < until, f"{line}: printed nothing\n{self.errors.read_text()}"
            time.sleep(1.0)

    def end(self, key: str) -> None:
        """Press a key; the program, which still runs, must end by it, with all that its line started."""
        assert self.program is not None
        assert self.program.stdin is not None
        assert self.program.poll() is None, self.errors.read_text()
        if key == "^D":
            self.program.stdin.close()
            assert self.program.wait(timeout=120) == 0, self.errors.read_text()
        else:
            os.killpg(self.program.pid, signal.SIGINT)
            self.program.wait(timeout=120)
            self.program.stdin.close()
        until = time.monotonic() + 120
        while _runs(self.program.pid):
            assert time.monotonic() < until, self.errors.read_text()
            time.sleep(0.5)

    def close(self) -> None:
        """Leave nothing behind, also after a page that failed."""
        if self.program is None or self.program.stdin is None:
            return
        self.program.stdin.close()
        if _runs(self.program.pid):
            os.killpg(self.program.pid, signal.SIGKILL)
            self.program.wait()


def _runs(group: int) -> bool:
    """Whether a process group has a process left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _filled(line: str, folder: Path) -> str:
    """A line with what its reader fills in: where Kluis is, and what a program printed before."""
    line = line.replace("KLUIS/", f"{ROOT}/")
    if os.geteuid() != 0:  # as the page states
        line = line.replace("--level process", "--level process-user")
    for word, key in (("PID", "pid"), ("SETTINGS", "attestation_settings")):
        if re.search(rf"\b{word}\b", line):
            line = re.sub(rf"\b{word}\b", str(json.loads((folder / "services.json").read_text())[key]), line)
    return re.sub(r"\bSTATE\b", str(folder / "home" / "state"), line)


def _free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _moved(page: str) -> str:
    """A page whose ports are free on this machine: another program may use the printed ones."""
    ports = {int(number) for _, number in PORT.findall(page)}
    by = next(
        each
        for each in range(1000 + os.getpid() % 100 * 100, 13_000, 10)
        if all(_free(port + each + more) for port in ports for more in range(IN_A_ROW))
    )
    return PORT.sub(lambda found: f"{found[1]}{int(found[2]) + by}", page)


def _follow(name: str, folder: Path) -> None:
    page = _moved((DOCS / "guides" / name).read_text())
    for title, text in FILE.findall(page):
        (folder / title).parent.mkdir(parents=True, exist_ok=True)
        (folder / title).write_text(text)
    others = {name: OtherTerminal(folder, name) for name in ("another", "a third")}
    try:
        for elsewhere, block in CONSOLE.findall(page):
            if elsewhere:
                others[elsewhere].type(_filled(block.strip(), folder))
                continue
            for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
                _run(_filled(line, folder), folder)
    finally:
        for other in others.values():
            other.close()


@pytest.mark.slow
def test_the_first_guides_do_what_they_say(folder: Path) -> None:
    """Following the first guides, one after the other in one folder, works to the letter."""
    _follow("first-enclave.md", folder)
    _follow("develop.md", folder)
    _follow("verify-a-quote.md", folder)
    _follow("verify.md", folder)
    _run("python -c 'import service'", folder)
    _follow("tcb-recovery.md", folder)


@pytest.mark.slow
def test_the_guide_of_data_frames_does_what_it_says(folder: Path) -> None:
    """Frames go in and out, streams are left, and coroutines run, with libraries that pip fetches."""
    _follow("data-frames.md", folder)
    here = ROOT / "examples" / "notebooks" / "frames"
    for name in ("app.py", "kluis.toml"):
        assert (folder / "frames" / name).read_text() == (here / name).read_text()


@pytest.mark.slow
def test_the_guide_of_new_projects_does_what_it_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Following the guide of new projects works to the letter, with libraries that pip fetches."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    _follow("start-a-project.md", folder)


@pytest.mark.slow
def test_the_clean_room_guide_does_what_it_says(folder: Path) -> None:
    """Following the guide of the clean room works to the letter, with libraries that pip fetches."""
    _follow("clean-room.md", folder)


@pytest.mark.slow
def test_the_guide_of_the_console_does_what_it_says(folder: Path) -> None:
    """The console starts with a room as on the page, and Ctrl-C ends it."""
    _follow("console.md", folder)


@pytest.mark.slow
def test_the_guide_of_serving_does_what_it_says(folder: Path) -> None:
    """Following the guide of serving inside works to the letter, with libraries that pip fetches."""
    _follow("serve-inside.md", folder)


@pytest.mark.slow
def test_the_guide_of_private_inference_does_what_it_says(folder: Path) -> None:
    """Following the guide of private inference works to the letter, with real models."""
    _follow("private-inference.md", folder)


@pytest.mark.slow
def test_the_guide_of_any_client_does_what_it_says(folder: Path) -> None:
    """Following the guide of any client works to the letter, with curl and a client of WebSocket."""
    _follow("any-client.md", folder)


def _stop_machines(folder: Path) -> None:
    """End the machines that a page left, also one that failed."""
    kluis = str(folder / "venv/bin/kluis")
    listed = subprocess.run(
        [kluis, "vm", "list", "--json"], capture_output=True, text=True, check=True
    ).stdout
    for each in json.loads(listed):
        _run(f"kluis vm stop {each['name']}", folder)


@pytest.mark.slow
def test_the_guide_of_machines_does_what_it_says(folder: Path) -> None:
    """A guest is built and measured, boots, and runs an image whose evidence is judged."""
    for tool in ("qemu-system-x86_64", "swtpm", "mkfs.erofs", "ukify"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: kluis doctor names its package")
    _follow("first-enclave.md", folder)
    try:
        with guest.only_one():
            _follow("machines.md", folder)
    finally:
        _stop_machines(folder)


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
    """A backup of services and platform, made and restored as on the page, serves again."""
    _follow("operate.md", folder)


@pytest.mark.slow
def test_the_guide_of_a_consortium_does_what_it_says(folder: Path) -> None:
    """Three banks found a ledger, vote in code and transfer; another party verifies the receipt offline."""
    _follow("consortium.md", folder)


@pytest.mark.slow
def test_the_guide_of_keeping_a_ledger_does_what_it_says(folder: Path) -> None:
    """A ledger is backed up, verified and restored, and goes on with an image that its members admitted."""
    _follow("keep-a-ledger.md", folder)


@pytest.mark.slow
def test_the_local_cloud_guide_does_what_it_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local cloud starts, serves Azure's client and a user's tests, and stops."""
    monkeypatch.setenv("KLUIS_CLOUD", str(folder / "cloud"))
    _follow("local-cloud.md", folder)
