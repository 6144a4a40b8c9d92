"""Machines that outlive the command that started them. The guest here is zeros: the BIOS runs, no kernel."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kluis.cli import render
from kluis.cli.main import run
from kluis.errors import UnavailableError, UsageError
from kluis.tee.vm.guest.guest import NAMES
from kluis.tee.vm.machine import acceleration, kept, ondemand
from kluis.tee.vm.machine.kept import Settings
from kluis.tee.vm.machine.machine import PORT_NAME
from kluis.tee.vm.processor.kept import save
from tests.authority.amd.chips import chip
from tests.tee.vm.machine.guest import NEEDED, empty_kernel

pytestmark = pytest.mark.skipif(bool(NEEDED), reason=f"apt-get install {NEEDED}")
SECONDS = 300.0


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder of a guest of zeros, and a folder for machines, which are ended with the test."""
    render.reset()
    monkeypatch.setenv("KLUIS_HOME", str(tmp_path / "home"))
    folder = tmp_path / "guest"
    folder.mkdir()
    for name in NAMES.values():
        (folder / name).write_bytes(empty_kernel())
    described = {
        "blocks": 16,
        "command_line": f"roothash={'0' * 64}",
        "digests": dict.fromkeys(NAMES, hashlib.sha256(empty_kernel()).hexdigest()),
        "inputs": "0" * 64,
        "kernel": "6.12.0",
        "release": "0",
        "root_hash": "0" * 64,
    }
    (folder / "guest.json").write_text(json.dumps(described))
    # Whether KVM boots zeros is not the question.
    monkeypatch.setattr(acceleration, "choose", lambda *_: "tcg")
    acceleration.choose_cached(kept.folder(), Path("qemu"), folder / NAMES["kernel"])
    # One of its own takes seconds to create.
    (kept.lasting() / "processor").mkdir(mode=0o700)
    save(chip(now=datetime.now(UTC)), kept.lasting() / "processor")
    yield str(folder)
    for name in kept.names():
        with contextlib.suppress(UnavailableError):  # its keeper was killed
            kept.stop(name)


def test_start_show_stop(guest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It runs after the command that started it, is listed, and is gone after stop."""
    assert (
        run(["vm", "start", "--guest", guest, "--name", "one", "--memory", "128", "--no-wait", "--json"]) == 0
    )
    started = json.loads(capsys.readouterr().out)
    assert (started["name"], started["accelerator"], started["boot"]) == ("one", "tcg", "direct")
    assert Path(f"/proc/{started['pid']}").exists()
    assert (kept.folder().stat().st_mode & 0o777, kept.place("one").stat().st_mode & 0o777) == (0o700, 0o700)
    assert run(["vm", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [started]
    assert run(["vm", "show", "one", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == started
    render.reset()
    assert run(["vm", "stop", "one"]) == 0
    assert not Path(f"/proc/{started['pid']}").exists()
    assert run(["vm", "list"]) == 0
    assert "no machine runs" in capsys.readouterr().out


def test_a_second_of_the_same_name(guest: str) -> None:
    """It is refused; the first goes on."""
    first = kept.start(Settings("one", guest, memory_mb=128))
    with pytest.raises(UnavailableError, match="machine one: runs already") as caught:
        kept.start(Settings("one", guest, memory_mb=128))

    assert caught.value.hint == "kluis vm show one; or start one with another --name"
    assert kept.show("one") == first


@pytest.mark.parametrize("how", ["stopped", "by itself"])
def test_one_that_is_started_while_it_is_forgotten(
    guest: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that stops a machine removes nothing of one that another command has started meanwhile."""
    started = kept.start(Settings("one", guest, memory_mb=128))
    if how == "by itself":
        _kill(started)
    ask, again = kept.ask, {}

    def ask_late(name: str, request: dict[str, object]) -> dict[str, object]:
        try:
            return ask(name, request)
        finally:
            again.update(_start_once_it_may(guest))

    with monkeypatch.context() as patched:
        patched.setattr(kept, "ask", ask_late)
        kept.stop("one")
    assert kept.show("one") == again
    kept.connect("one").close()


def _start_once_it_may(guest: str) -> dict[str, object]:
    """The keeper of one that ended by itself may take a moment to end."""
    until = time.monotonic() + SECONDS
    while True:
        try:
            return kept.start(Settings("one", guest, memory_mb=128))
        except UnavailableError as lack:
            if lack.code != "machine_runs" or time.monotonic() > until:
                raise
        time.sleep(0.05)


def _kill(started: dict[str, object]) -> None:
    os.kill(int(str(started["pid"])), signal.SIGKILL)
    until = time.monotonic() + SECONDS
    while not (kept.place("one") / "ended").exists():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_nothing_is_left_of_one_that_was_stopped(guest: str) -> None:
    """Its folder goes, and its name is free as soon as the command has ended."""
    for _ in range(3):
        kept.start(Settings("one", guest, memory_mb=128))
        kept.stop("one")
        assert not kept.place("one").exists()


def test_two_at_once(guest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one builds the guest and starts its machine; the other waits, states that, and gets the same."""
    first_builds, other_waits = threading.Event(), threading.Event()
    built: list[Path] = []

    def build(folder: Path, say: object) -> None:
        built.append(folder)
        first_builds.set()
        assert other_waits.wait(SECONDS)
        shutil.copytree(guest, folder)

    monkeypatch.setattr(ondemand.building, "build", build)
    monkeypatch.setattr(ondemand, "MEMORY_MB", 128)
    monkeypatch.setattr(ondemand, "await_platform", kept.show)  # zeros never answer

    def say(line: str) -> None:
        if line == "another command builds the guest or starts its machine; waiting for it":
            other_waits.set()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(ondemand.obtain, say=say)
        one.add_done_callback(lambda _: first_builds.set())  # one that fails is reported below
        assert first_builds.wait(SECONDS)
        other = pool.submit(ondemand.obtain, say=say)
        other.add_done_callback(lambda _: other_waits.set())
        assert one.result(SECONDS) == other.result(SECONDS)
    assert built == [kept.lasting() / "guest"]


def test_a_changed_guest(guest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The keeper's refusal ends the command with the exit code of its kind."""
    (Path(guest) / "initrd").write_bytes(b"another")
    assert run(["vm", "start", "--guest", guest, "--name", "one", "--memory", "128"]) == 4
    assert "initrd: want SHA-256" in capsys.readouterr().err


def test_the_console_is_for_debug_machines(guest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Another machine's console is refused with exit code 7."""
    kept.start(Settings("plain", guest, memory_mb=128))
    kept.start(Settings("open", guest, memory_mb=128, debug=True))
    assert run(["vm", "console", "plain"]) == 7
    assert "console: want a debug machine" in capsys.readouterr().err
    assert run(["vm", "console", "open"]) == 0


def test_ports(guest: str) -> None:
    """A host has a port until it closes it; when all are taken, the next one is refused."""
    kept.start(Settings("one", guest, memory_mb=128, ports=2))
    with kept.connect("one"), kept.connect("one") as second:
        with pytest.raises(UnavailableError, match="all of its 2 ports are taken") as refused:
            kept.connect("one")
        assert refused.value.code == "machine_ports"
        second.close()
        kept.connect("one").close()


def test_the_port_that_was_left_first(guest: str) -> None:
    """A host gets a port that its guest has had time to open again, so that no message of it is lost."""
    kept.start(Settings("one", guest, memory_mb=128, ports=3))
    names = [PORT_NAME.format(number) for number in range(3)]
    met = []
    for _ in range(6):
        with kept.connect("one") as port:
            met.append(Path(port.getpeername()).name)
            time.sleep(0.01)  # the times of files are not finer
    assert met == 2 * names


def test_one_that_ended_by_itself(guest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is listed with the reason until its owner stops it."""
    started = kept.start(Settings("one", guest, memory_mb=128))
    _kill(started)
    assert run(["vm", "show", "one"]) == 7
    assert "machine one: machine: ended with status 137" in " ".join(capsys.readouterr().err.split())
    assert run(["vm", "list"]) == 0
    assert "ended with status 137" in capsys.readouterr().out
    kept.stop("one")
    assert kept.names() == []


def test_one_that_ends_at_once(guest: str) -> None:
    """QEMU's error is that of the start, and nothing is listed."""
    (Path(guest) / NAMES["kernel"]).write_bytes(bytes(1024))
    described = json.loads((Path(guest) / "guest.json").read_text())
    described["digests"]["kernel"] = hashlib.sha256(bytes(1024)).hexdigest()
    (Path(guest) / "guest.json").write_text(json.dumps(described))
    acceleration.choose_cached(kept.folder(), Path("qemu"), Path(guest) / NAMES["kernel"])
    with pytest.raises(UnavailableError, match="machine: ended with status 1: qemu: "):
        kept.start(Settings("one", guest, memory_mb=128))

    assert kept.list_machines() == []


@pytest.mark.parametrize("debug", [False, True])
def test_one_that_never_answers(guest: str, debug: bool) -> None:
    """The wait for its platform has an end, and the error names the command that prints its log."""
    kept.start(Settings("one", guest, memory_mb=128, debug=debug))
    with pytest.raises(UnavailableError) as caught:
        ondemand.await_platform("one", 0.5)
    assert (caught.value.code, caught.value.message) == (
        "machine_silent",
        "machine one: platform: no answer in 0.5 s, with tcg and direct boot",
    )
    started = f"kluis vm start --guest {guest} --name one-debug --debug"
    assert caught.value.hint == (
        "kluis vm console one prints its log"
        if debug
        else f"{started}; then kluis vm console one-debug prints its log"
    )
    if not debug:
        with pytest.raises(UnavailableError, match="want a debug machine") as refused:
            kept.console("one")
        assert refused.value.hint == started
    assert kept.show("one")["name"] == "one"


def test_one_that_ends_while_its_platform_is_awaited(guest: str) -> None:
    """The wait ends with the machine, with the reason."""
    started = kept.start(Settings("one", guest, memory_mb=128))
    os.kill(started["pid"], signal.SIGKILL)
    with pytest.raises(UnavailableError, match="machine one: machine: ended with status") as caught:
        ondemand.await_platform("one")
    assert caught.value.code == "machine_ended"


def test_its_keeper_is_killed(guest: str) -> None:
    """The machine ends with the process that keeps it, and another of the name may start."""
    started = kept.start(Settings("one", guest, memory_mb=128))
    watched = os.pidfd_open(started["pid"])
    status = Path(f"/proc/{_keeper(started['pid'])}/status").read_text()
    assert "python" in status.splitlines()[0]
    os.kill(_keeper(started["pid"]), signal.SIGKILL)
    assert select.select([watched], [], [], SECONDS)[0]
    os.close(watched)
    with pytest.raises(UnavailableError, match="none of this name runs"):
        kept.show("one")
    assert kept.start(Settings("one", guest, memory_mb=128))["pid"] != started["pid"]


def _keeper(pid: int) -> int:
    """The nearest ancestor that is a Python."""
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        if status.startswith("Name:\tpython"):
            return pid
        pid = int(status.partition("PPid:\t")[2].split()[0])


@pytest.mark.parametrize("command", ["show", "stop", "console"])
def test_none_of_this_name(guest: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 7, and the command that lists the machines."""
    assert run(["vm", command, "nowhere"]) == 7
    assert "kluis vm list" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "../x", "A", "a" * 33, "-a", "a b"])
def test_what_is_no_name(guest: str, name: str) -> None:
    """It names no folder outside of the machines' own."""
    with pytest.raises(UsageError, match="machine name: want"):
        kept.place(name)


def test_a_folder_that_others_can_read(guest: str) -> None:
    """It is refused, with the command that closes it."""
    kept.folder().chmod(0o755)
    with pytest.raises(UnavailableError, match="mode: want 0700, got 0755") as caught:
        kept.list_machines()

    assert caught.value.hint == f"chmod 0700 {kept.places.mine().runtime / 'machines'}"
    (kept.places.mine().runtime / "machines").chmod(0o700)


def test_what_kvm_did_is_remembered(guest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried once for a kernel, in whatever file, and again for another or after a restart."""
    tried: list[Path] = []

    def choose(qemu: Path, kernel: Path) -> str:
        tried.append(kernel)
        return "kvm"

    monkeypatch.setattr(acceleration, "choose", choose)
    kernel, copy, other = (Path(guest) / name for name in ("vmlinuz", "copy", "other"))
    copy.write_bytes(kernel.read_bytes())
    other.write_bytes(b"another")
    found = [
        acceleration.choose_cached(kept.lasting(), Path("qemu"), each)
        for each in (kernel, kernel, copy, other)
    ]
    assert (found, tried) == (["kvm"] * 4, [kernel, other])
    monkeypatch.setattr(acceleration, "BOOT_ID", Path(guest) / "guest.json")
    acceleration.choose_cached(kept.lasting(), Path("qemu"), other)
    assert tried == [kernel, other, other]


def test_one_that_is_idle(guest: str) -> None:
    """It runs as long as a host has one of its ports, and ends by itself after that."""
    kept.start(Settings("one", guest, memory_mb=128, idle_seconds=1))
    with kept.connect("one"):
        time.sleep(2.5)
        assert kept.show("one")["name"] == "one"
    until = time.monotonic() + SECONDS
    while kept.names():
        assert time.monotonic() < until
        time.sleep(0.1)
    with pytest.raises(UnavailableError, match="none of this name runs"):
        kept.show("one")


def test_a_folder_whose_path_is_too_long(guest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path has at most 107 bytes: the error states that, and what makes it shorter."""
    monkeypatch.setenv("KLUIS_HOME", str(tmp_path / ("x" * 100)))
    with pytest.raises(UsageError, match="path of its sockets: want at most 107 bytes, got ") as caught:
        kept.start(Settings("one", guest, memory_mb=128))
    assert "KLUIS_HOME" in str(caught.value.hint)


def test_an_error_of_the_system(guest: str) -> None:
    """The command states what its keeper could not write, and not only that the keeper ended."""
    folder = kept.lasting() / "processor"
    (folder / "processor.json").unlink()  # so that one is created
    (folder / "ark.key").unlink()
    (folder / "ark.key").mkdir()  # where a file is to be
    with pytest.raises(UnavailableError, match=r"machine: .*ark\.key.*: ") as caught:
        kept.start(Settings("one", guest, memory_mb=128))
    assert caught.value.exit_code == 7
    assert kept.list_machines() == []
