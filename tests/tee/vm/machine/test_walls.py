"""The command lines of walls and of QEMU, and what a process within walls inherits."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import time
from pathlib import Path

import pytest

from kluis.tee.vm.machine import line, programs, walled, walls
from kluis.tee.vm.machine.walls import Walls

HARDWARE = line.Hardware(
    memory_mb=256, cpus=2, accelerator="tcg", secret=True, console=9, ports=(("kluis.0", 10),), tpm=11
)

SECONDS = 60.0


def test_qemu_has_no_way_to_its_memory_and_no_network() -> None:
    """No monitor, no default device, no network card, the filter of system calls on."""
    made = line.arguments(line.Boot(kernel=4, firmware=5, initrd=6, command_line="x"), HARDWARE)
    pairs = list(itertools.pairwise(made))
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(made)
    assert {("-monitor", "none"), ("-nic", "none"), ("-sandbox", line.SANDBOX)} <= set(pairs)
    assert not {"-qmp", "-mon", "-gdb", "-s", "-netdev"} & set(made)


def test_files_are_given_by_descriptor() -> None:
    """No path of this machine is in QEMU's arguments."""
    boot = line.Boot(kernel=4, firmware=5, variables=6, root=7)
    paths = [part for part in line.arguments(boot, HARDWARE) if "/" in part]
    assert paths
    assert all("/proc/self/fd/" in part or "/dev/fdset/" in part for part in paths)


def test_only_tcg_has_secret_memory() -> None:
    """The library replaces the memory file of one backend, which is used for secret memory only."""
    plain = line.Hardware(memory_mb=256, cpus=1, accelerator="kvm", secret=False, console=9)
    boot = line.Boot(kernel=4, firmware=5)
    assert "memory-backend-memfd" in " ".join(line.arguments(boot, HARDWARE))
    assert "memory-backend-memfd" not in " ".join(line.arguments(boot, plain))


def test_root_gives_a_user_id_and_a_user_keeps_their_own() -> None:
    """As root the program runs under a separate id; otherwise in a user namespace."""
    as_root = walls.command(Walls(Path("/usr/bin/x"), None, 1234), [], bwrap=Path("/usr/bin/bwrap"))
    as_user = walls.command(Walls(Path("/usr/bin/x"), None, 0), [], bwrap=Path("/usr/bin/bwrap"))
    assert as_root[as_root.index("--reuid") + 1] == "1234"
    assert "--user" not in as_root
    assert "--user" in as_user
    assert "--reuid" not in as_user


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="apt-get install bubblewrap")
def test_a_descriptor_that_was_left_open(tmp_path: Path) -> None:
    """What this process inherited, or left inheritable, does not reach the program; what is given does."""
    left, given = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    os.set_inheritable(left, True)
    process = walled.start(
        "sleep",
        Walls(Path(os.path.realpath(shutil.which("sleep") or "")), None, walls.uid()),
        lambda inside: ["1000"],
        [given],
        bwrap=programs.find("bwrap"),
    )
    try:
        targets = []
        for path in Path(f"/proc/{process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # what its loader had open
                targets.append(os.readlink(path))
        assert targets.count(str(tmp_path)) == 1
        until = time.monotonic() + SECONDS
        while not (environment := Path(f"/proc/{process.pid}/environ").read_bytes()):
            assert time.monotonic() < until  # it is empty in the moment in which a program begins
        assert environment == b"PWD=/\0"
    finally:
        process.kill()
        os.close(left)
        os.close(given)
    assert process.wait(0) is not None
