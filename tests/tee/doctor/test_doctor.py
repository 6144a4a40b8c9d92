"""The doctor's trials, each against the machine that runs this test."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kluis.tee.doctor import Part, State, examine, guest, hardware, kernel, kvm, openness, programs
from kluis.tee.process import linux

WANTED = {
    *(
        "memfd_secret",
        "RLIMIT_MEMLOCK",
        "RLIMIT_NOFILE",
        "user namespaces",
        "Landlock",
        "seccomp",
        "PR_SET_MDWE",
        "bubblewrap",
        "container",
    ),
    *(
        "runtime",
        "KVM",
        "QEMU",
        "swtpm",
        "OVMF",
        "erofs-utils",
        "SGX",
        "TDX guest",
        "TDX host",
        "SEV-SNP guest",
    ),
    *("SEV-SNP host", "Nitro enclave", "Nitro parent", "TPM", "perf_event_paranoid", "unprivileged BPF"),
    *("lockdown", "Yama", "kernel modules", "kexec", "core dumps", "swap"),
}


def test_examines_everything_once() -> None:
    """Every thing that the table promises is looked for, once; drivers have a row each, or one for all."""
    names = [finding.name for finding in examine(boot_seconds=5)]
    drivers = [name for name in names if name.split()[0] == "driver"]
    assert sorted(set(names) - set(drivers)) == sorted(WANTED)
    assert len(names) == len(WANTED) + len(drivers)
    assert drivers


def test_programs_of_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a virtual machine needs and is not installed: absent, with the command that installs it."""
    monkeypatch.setattr(programs, "OVMF", (tmp_path / "OVMF_CODE.fd", tmp_path / "OVMF_VARS.fd"))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {finding.name: finding for finding in programs.probe() if finding.part is Part.VM}
    assert {name: finding.fix for name, finding in found.items()} == {
        "QEMU": "apt-get install qemu-system-x86",
        "swtpm": "apt-get install swtpm",
        "OVMF": "apt-get install ovmf",
        "erofs-utils": "apt-get install erofs-utils",
    }
    assert {finding.state for finding in found.values()} == {State.ABSENT}
    assert found["OVMF"].seen == "not installed: OVMF_CODE.fd, OVMF_VARS.fd"
    for path in programs.OVMF:
        path.write_bytes(b"")
    assert programs.firmware().state is State.OK


def test_whatever_is_not_well_says_how_to_mend_it() -> None:
    """A missing or open protection has a fix."""
    for finding in examine(boot_seconds=5):
        if finding.state in {State.MISSING, State.OPEN}:
            assert finding.fix, finding.name


def test_nothing_stays_behind() -> None:
    """An examination leaves no child and no descriptor."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before, theirs = sorted(os.listdir("/proc/self/fd")), set(children.read_text().split())
    examine(boot_seconds=5)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert set(children.read_text().split()) <= theirs


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to run as somebody else")
def test_a_small_memlock_limit_is_found() -> None:
    """An ordinary user with Debian's default of 8 MiB gets a finding, with the line for limits.d."""
    program = (
        "import os, resource, sys\n"
        f"sys.path[:0] = {[path for path in sys.path if path]!r}\n"
        "from kluis.tee.doctor import kernel\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 << 20, 8 << 20))\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "found = kernel.memlock()\n"
        "print(found.state, found.seen, found.fix, sep='|')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env={})
    line = 'echo "$(id -un) - memlock unlimited" | sudo tee -a /etc/security/limits.d/kluis.conf'
    line += ", and log in again"
    assert done.stdout == (
        f"missing|8 MiB, want 512 MiB for a default heap|{line} (a service: LimitMEMLOCK=infinity)\n"
    )
    assert f": {line};" in linux.FIXES["secret-memory"]


@pytest.mark.parametrize(("limit", "state"), [(16447, State.MISSING), (16448, State.OK)])
def test_a_small_limit_on_descriptors_is_found(limit: int, state: State) -> None:
    """The launcher takes every descriptor below 16,448 while it makes its heap."""
    program = (
        "import resource, sys\n"
        f"sys.path[:0] = {[path for path in sys.path if path]!r}\n"
        "from kluis.tee.doctor import kernel\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (1024, {limit}))\n"
        "found = kernel.descriptors()\n"
        "print(found.state, found.seen, found.fix, sep='|')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env={})
    fix = 'echo "$(id -un) - nofile 16448" | sudo tee -a /etc/security/limits.d/kluis.conf, and log in again '
    fix += "(a service: LimitNOFILE=16448)"
    assert done.stdout == f"{state}|{limit}, want 16448|{fix if state is State.MISSING else None}\n"


@pytest.mark.skipif(not os.access(kvm.DEVICE, os.R_OK | os.W_OK), reason="no /dev/kvm that may be opened")
def test_the_guest_writes_its_letter_and_halts() -> None:
    """Eleven bytes of real-mode code run under KVM: one letter on the serial port, then a halt."""
    assert guest.run() == b"K"
    assert kvm.halts() is None


def test_a_kernel_that_does_not_speak_is_found(tmp_path: Path) -> None:
    """A silent program in QEMU's place, and one that fails with a message, are distinguished."""
    silent, complaining = tmp_path / "silent", tmp_path / "complaining"
    silent.write_text("#!/bin/sh\nexec sleep 30\n")
    complaining.write_text("#!/bin/sh\necho 'could not access KVM' >&2\nexit 1\n")
    for program in (silent, complaining):
        program.chmod(0o755)
    assert kvm.boots(str(silent), tmp_path, 1) == "silent for 1 s"
    assert kvm.boots(str(complaining), tmp_path, 1) == "could not access KVM"


@pytest.mark.parametrize(
    ("qemu", "lack"), [("/usr/bin/qemu-system-x86_64", "kernel in BOOT that may be read"), (None, "QEMU")]
)
def test_what_a_kernel_needs_to_boot(
    qemu: str | None, lack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing for the last trial is named in plain words."""
    monkeypatch.setattr(kvm, "BOOT", str(tmp_path))
    monkeypatch.setattr(kvm, "DEVICE", "/dev/null")
    monkeypatch.setattr(kvm, "halts", lambda: None)
    monkeypatch.setattr(kvm.shutil, "which", lambda name: qemu)
    found = kvm.probe(1)
    assert found.state is State.PARTIAL
    assert found.seen.endswith(f"no kernel was booted: no {lack.replace('BOOT', str(tmp_path))}")


def test_the_boot_parameter_keeps_the_other_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed as printed, ``lsm=`` adds one module and turns off none."""
    lists = tmp_path / "lsm"
    monkeypatch.setattr(openness, "LSM", str(lists))
    monkeypatch.setattr(openness, "setting", lambda path: lists.read_text() if path == str(lists) else None)
    lists.write_text("capability,landlock,yama,apparmor")
    assert openness.lockdown().fix == "boot with lsm=lockdown,landlock,yama,apparmor lockdown=confidentiality"
    assert openness.yama().fix == "boot with lsm=yama,landlock,apparmor"
    lists.write_text("")
    assert openness.yama().fix == "boot with yama in front of the others in lsm="


def test_settings_are_read_as_they_are() -> None:
    """perf_event_paranoid is judged by the number that the kernel shows."""
    path = Path("/proc/sys/kernel/perf_event_paranoid")
    if not path.exists():
        pytest.skip("the kernel has no perf events")
    found = openness.perf()
    assert found.state is (State.OK if int(path.read_text()) >= 3 else State.OPEN)


def test_devices_are_found_where_they_are() -> None:
    """A TEE is there exactly when its device is."""
    by_name = {finding.name: finding for finding in hardware.probe()}
    assert (by_name["SGX"].state is State.OK) == Path("/dev/sgx_enclave").exists()
    assert (by_name["TPM"].state is State.OK) == (Path("/dev/tpmrm0").exists() or Path("/dev/tpm0").exists())


def test_bubblewrap_is_run_not_looked_up() -> None:
    """If bubblewrap is installed, the line states that it ran a program."""
    if shutil.which("bwrap") is None:
        assert programs.bubblewrap().fix == "apt-get install bubblewrap"
    else:
        assert programs.bubblewrap().seen.endswith("ran a program in fresh namespaces")


def test_limits_are_left_alone() -> None:
    """Looking at limits changes none."""
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    kernel.probe()
    assert resource.getrlimit(resource.RLIMIT_MEMLOCK) == before


def test_drivers() -> None:
    """Each available driver has a row with the kind of its evidence; without any, one row lists all."""

    class Known:
        def __init__(self, name: str, reason: str | None) -> None:
            self.name, self._reason = name, reason

        def available(self) -> str | None:
            return self._reason

        def kind(self) -> str:
            return f"{self.name}-kind"

        def endorse(self, report_data: bytes) -> dict[str, bytes]:
            return {}

        def seal_secret(self) -> bytes | None:
            return None

    found = hardware.drivers((Known("one", None), Known("two", "no device"), Known("three", None)))
    assert [(each.name, each.state, each.seen) for each in found] == [
        ("driver one", State.OK, "endorses a platform's root, as one-kind"),
        ("driver three", State.OK, "endorses a platform's root, as three-kind"),
    ]
    (none,) = hardware.drivers((Known("two", "no device"),))
    assert (none.name, none.state) == ("driver", State.ABSENT)
    assert "none of two is available" in none.seen
