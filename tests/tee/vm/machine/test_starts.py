"""Starts that fail, and starts that are killed: a clear error, and nothing left behind. No guest boots."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kluis.errors import AuthenticityError, UnavailableError, UsageError
from kluis.tee.vm.machine import acceleration, machine, programs
from kluis.tee.vm.machine.machine import Machine
from tests.meta.tree import DOCS
from tests.tee.vm.machine.guest import NEEDED, SECONDS, Small, empty_kernel

installed = pytest.mark.skipif(bool(NEEDED), reason=f"apt-get install {NEEDED}")


@pytest.fixture
def empty(tmp_path: Path) -> Small:
    """A guest whose kernel is only a header."""
    (tmp_path / "kernel").write_bytes(empty_kernel())
    (tmp_path / "initrd").write_bytes(bytes(64 << 10))
    return Small(tmp_path / "kernel", tmp_path / "initrd", "")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"boot": "floppy"}, "boot: want direct or uefi, got 'floppy'"),
        ({"memory_mb": 64}, "memory: want 128..1048576, got 64"),
        ({"cpus": 0}, "cpus: want 1..64, got 0"),
        ({"ports": 31}, "ports: want 1..30, got 31"),
    ],
)
def test_numbers_out_of_range(empty: Small, given: dict[str, object], message: str) -> None:
    """A usage error states the range."""
    with pytest.raises(UsageError) as caught:
        Machine.start(empty, **given)  # type: ignore[arg-type]

    assert caught.value.message == message


@pytest.mark.parametrize(
    ("program", "package"),
    [
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("bwrap", "bubblewrap"),
        ("setpriv", "util-linux"),
        ("unshare", "util-linux"),
    ],
)
def test_a_program_is_missing(
    empty: Small, program: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the program, and the command that installs it."""
    for name in {"qemu-system-x86_64", *programs.WALLS} - {program}:
        (tmp_path / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError) as caught:
        Machine.start(empty, accelerator="tcg")

    assert caught.value.message == f"machine: {program} is not on the PATH"
    assert caught.value.hint == f"apt-get install {package}"
    assert caught.value.exit_code == 7


@installed
@pytest.mark.parametrize(("boot", "package"), [("direct", "seabios"), ("uefi", "ovmf")])
def test_the_firmware_is_missing(
    empty: Small, boot: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the file, and the command that installs it."""
    monkeypatch.setattr(programs, "BIOS", tmp_path / "bios.bin")
    monkeypatch.setattr(programs, "OVMF_CODE", tmp_path / "OVMF_CODE.fd")
    with pytest.raises(UnavailableError, match=f"machine: firmware for {boot}: no {tmp_path}") as caught:
        Machine.start(empty, boot=boot, accelerator="tcg")

    assert caught.value.hint == f"apt-get install {package}"


@installed
@pytest.mark.parametrize("part", ["kernel", "initrd"])
def test_a_file_of_the_guest_is_missing(empty: Small, part: str) -> None:
    """The error names the file, and the command that builds the guest; no descriptor stays open."""
    path: Path = getattr(empty, part)
    path.unlink()
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(UnavailableError) as caught:
        Machine.start(empty, accelerator="tcg")

    assert caught.value.message == f"machine: {part}: {path}: No such file or directory"
    assert caught.value.hint == "kluis vm guest build"
    assert sorted(os.listdir("/proc/self/fd")) == before


@installed
@pytest.mark.parametrize("part", ["kernel", "initrd"])
def test_a_file_of_the_guest_is_another(empty: Small, part: str) -> None:
    """What is started is compared with its digest, as it is sealed."""
    path: Path = getattr(empty, part)
    other = dataclasses.replace(empty, digests={part: bytes(32)})
    with pytest.raises(AuthenticityError) as caught:
        Machine.start(other, accelerator="tcg")

    got = hashlib.sha256(path.read_bytes()).hexdigest()
    assert caught.value.message == f"machine: {part}: {path}: want SHA-256 {'0' * 64}, got {got}"


@installed
def test_uefi_without_a_unified_image(empty: Small, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error states what the guest lacks."""
    for name in ("OVMF_CODE", "OVMF_VARIABLES"):
        (tmp_path / name).write_bytes(b"")
        monkeypatch.setattr(programs, name, tmp_path / name)
    with pytest.raises(UnavailableError, match="machine: uefi: the guest has no unified image"):
        Machine.start(empty, boot="uefi", accelerator="tcg")


def test_uefi_takes_no_single_image(empty: Small) -> None:
    """The guest's command line is in its image, so nothing would hold the guest to one image."""
    with pytest.raises(UsageError, match="machine: uefi: the guest cannot be restricted to one image"):
        Machine.start(empty, boot="uefi", accelerator="tcg", only=bytes(32))


@installed
def test_uefi_without_a_protection(empty: Small, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A guest that could not state what its machine lacks does not start."""
    for name in ("OVMF_CODE", "OVMF_VARIABLES"):
        (tmp_path / name).write_bytes(b"")
        monkeypatch.setattr(programs, name, tmp_path / name)
    monkeypatch.setattr(machine, "_library", lambda: None)
    whole = dataclasses.replace(empty, unified=empty.kernel)
    with pytest.raises(UnavailableError) as caught:
        Machine.start(whole, boot="uefi", accelerator="tcg")

    lacks = "machine: uefi: no guardian, guest-memory, and its guest could not state that"
    assert caught.value.message == lacks


@installed
def test_more_memory_than_there_is(empty: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error states what is available, and an amount that fits."""
    monkeypatch.setattr(acceleration, "available_bytes", lambda: 600 << 20)
    with pytest.raises(UnavailableError) as caught:
        Machine.start(empty, memory_mb=1024, accelerator="tcg")

    assert caught.value.message == "machine: memory: want 1024 MiB, 600 MiB are available"
    assert caught.value.hint == "kluis vm start --memory 300"


@installed
def test_an_initrd_larger_than_the_memory(empty: Small) -> None:
    """QEMU's own error arrives, with the option that gives more memory."""
    with empty.initrd.open("wb") as f:
        f.truncate(160 << 20)
    with (
        pytest.raises(UnavailableError, match="initrd is too large") as caught,
        Machine.start(empty, memory_mb=128, accelerator="tcg") as machine,
    ):
        machine.await_first(0, SECONDS)

    assert caught.value.hint == "kluis vm start --memory MIB, with more"
    assert caught.value.exit_code == 7


@installed
def test_a_kvm_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A QEMU that says nothing under KVM is not waited for indefinitely, and the machine gets TCG."""
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 1000\n")
    silent.chmod(0o755)
    most = acceleration.kvm.HALT_SECONDS + acceleration.BOOT_SECONDS
    assert f"takes at most {most} seconds if KVM hangs" in (DOCS / "guides" / "machines.md").read_text()
    monkeypatch.setattr(acceleration, "BOOT_SECONDS", 1)
    monkeypatch.setattr(acceleration.kvm, "halts", lambda: None)
    monkeypatch.setattr(acceleration.kvm, "DEVICE", "/dev/null")
    acceleration.choose.cache_clear()
    try:
        assert acceleration.choose(silent, tmp_path / "kernel") == "tcg"
    finally:
        acceleration.choose.cache_clear()


OWNER = """
import os, sys
from pathlib import Path
from kluis.tee.vm.machine import walled
from kluis.tee.vm.machine.machine import Machine
from tests.tee.vm.machine.guest import Small

def stop_here(*_, **__):
    print("here", flush=True)
    sys.stdin.read()

step, kernel, initrd = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
if step == "walls":
    walled.Walled.await_ready = stop_here
elif step == "library":
    walled.Walled._find = stop_here
guest, folder = Small(kernel, initrd, sys.argv[4]), Path(sys.argv[5])
machine = Machine.start(guest, memory_mb=128, accelerator="tcg", folder=folder)
stop_here()
"""


@installed
@pytest.mark.parametrize("step", ["walls", "library", "running"])
def test_killed_at_each_step(tmp_path: Path, empty: Small, step: str) -> None:
    """The process that starts a machine is killed at one step of it: no process is left."""
    mark = f"mark={os.urandom(8).hex()}"  # QEMU's command line has it, and so has bubblewrap's
    line = [sys.executable, "-c", OWNER, step, str(empty.kernel), str(empty.initrd), mark, str(tmp_path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"here\n"
        assert len(_marked(mark)) > 1
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    until = time.monotonic() + SECONDS
    while left := _marked(mark):
        assert time.monotonic() < until, left
        time.sleep(0.01)


def _marked(mark: str) -> list[str]:
    """The command lines with ``mark``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes()
            found += [line.decode()] if mark.encode() in line else []
    return found


@installed
def test_a_start_that_is_interrupted(empty: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in the middle ends what was started, and closes every descriptor."""
    from kluis.tee.vm.machine import walled

    started: list[walled.Walled] = []

    def interrupt(self: walled.Walled, *_: object, **__: object) -> None:
        started.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(walled.Walled, "await_ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Machine.start(empty, memory_mb=128, accelerator="tcg")

    assert started[0].wait(SECONDS) is not None
