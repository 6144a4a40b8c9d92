"""A machine that runs: its ports and console, what is around it, and its end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.tee.vm.machine import walls
from kluis.tee.vm.machine.machine import Machine
from tests.tee.vm.machine import guest

pytestmark = pytest.mark.slow
ROOT = os.geteuid() == 0


def test_ports_console_and_walls(tmp_path: Path) -> None:
    """Three ports reach the guest; QEMU has a user id, a tracer and no network; stop ends all."""
    talking = guest.small(tmp_path, "talk")
    with guest.only_one():
        machine = Machine.start(talking, memory_mb=256, ports=2, processor=True, accelerator="tcg")
        try:
            machine.await_first(0, guest.SECONDS)
            assert machine.port(0).recv(1) == b"!"
            assert machine.processor is not None
            for port in (machine.port(0), machine.port(1), machine.processor):
                port.settimeout(guest.SECONDS)
                port.sendall(b"over there")
                assert port.recv(100) == b"over there"
            assert machine.console.await_text(lambda text: "ready with 3 ports" in text, guest.SECONDS)
            status = Path(f"/proc/{machine.pid}/status").read_text()
            assert "Seccomp:\t2" in status
            assert "NoNewPrivs:\t1" in status
            assert "TracerPid:\t0" not in status
            if ROOT:
                uid = int(status.partition("Uid:\t")[2].split()[0])
                assert walls.UIDS <= uid < walls.UIDS + walls.UID_COUNT
                assert "secretmem" in Path(f"/proc/{machine.pid}/maps").read_text()
                net = Path(f"/proc/{machine.pid}/net/dev").read_text().splitlines()
                assert [row.split(":")[0].strip() for row in net[2:]] == ["lo"]
                assert os.listdir(f"/proc/{machine.pid}/root/usr/bin") != os.listdir("/usr/bin")
                assert "kluis-kernel (deleted)" in os.readlink(f"/proc/{machine.pid}/fd/4")
            pid = machine.pid
        finally:
            machine.stop()
        assert not Path(f"/proc/{pid}").exists()
        assert machine.wait(0) is not None


def test_a_panic_is_reported(tmp_path: Path) -> None:
    """A kernel that panics ends the machine, and the error quotes the panic."""
    panicking = guest.small(tmp_path, "panic")
    with (
        guest.only_one(),
        Machine.start(panicking, memory_mb=256, accelerator="tcg") as machine,
        pytest.raises(UnavailableError, match="Kernel panic - not syncing: Attempted to kill init") as caught,
    ):
        machine.await_first(0, guest.SECONDS)
    assert caught.value.exit_code == 7


OWNER = """
import sys
from pathlib import Path
from kluis.tee.vm.machine.machine import Machine
from tests.tee.vm.machine.guest import Small
guest, folder = Small(Path(sys.argv[1]), Path(sys.argv[2])), Path(sys.argv[3])
machine = Machine.start(guest, memory_mb=256, accelerator="tcg", folder=folder)
print(machine.pid, flush=True)
sys.stdin.read()
"""


def test_it_ends_with_its_owner(tmp_path: Path) -> None:
    """The process that started it is killed: nothing of it is left behind."""
    talking = guest.small(tmp_path, "talk")
    line = [sys.executable, "-c", OWNER, str(talking.kernel), str(talking.initrd), str(tmp_path)]
    with guest.only_one(), subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        watched = os.pidfd_open(pid)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert select.select([watched], [], [], guest.SECONDS)[0]
        os.close(watched)
