"""Test whether KVM really boots a kernel: a device node is not enough, nor is a guest of eleven bytes.

There are three trials, each in a child with a timeout, because a broken KVM hangs where a missing one fails.
The device opens; a few bytes of real-mode code run and halt; a Linux kernel under QEMU produces output.

Spec: Documentation/virt/kvm/api.rst.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from kluis.tee.doctor.finding import Finding, Part, State, flags

DEVICE = "/dev/kvm"
BOOT = "/boot"
HALT_SECONDS = 60
FIRST_WORD = b"Linux version"


def probe(boot_seconds: int) -> Finding:
    """Run the three trials until one fails."""
    if not Path(DEVICE).exists():
        return _kvm(
            State.ABSENT,
            f"no {DEVICE}",
            "enable virtualisation in the firmware, or nested on the host; sudo modprobe kvm",
        )
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return _kvm(
            State.PARTIAL, f"{DEVICE} may not be opened", "sudo adduser $(id -un) kvm, and log in again"
        )
    kind = "in hardware" if flags() & {"vmx", "svm"} else "in software (no vmx or svm flag)"
    if problem := halts():
        return _kvm(State.PARTIAL, f"{kind}; a guest of eleven bytes: {problem}")
    kernel, qemu = stock_kernel(), shutil.which("qemu-system-x86_64")
    if qemu is None or kernel is None:
        lack = "QEMU" if qemu is None else f"kernel in {BOOT} that may be read"
        fix = "apt-get install qemu-system-x86" if qemu is None else "apt-get install linux-image-cloud-amd64"
        return _kvm(
            State.PARTIAL, f"{kind}; a guest of eleven bytes ran; no kernel was booted: no {lack}", fix
        )
    if problem := boots(qemu, kernel, boot_seconds):
        return _kvm(State.PARTIAL, f"{kind}; a guest of eleven bytes ran; {kernel.name}: {problem}")
    return _kvm(State.OK, f"{kind}; {kernel.name} booted")


def halts() -> str | None:
    """Run a guest of eleven bytes in a child.

    Returns:
        The problem; None if the guest wrote its letter and halted.
    """
    command = [sys.executable, "-I", "-c", _CHILD, str(Path(__file__).with_name("guest.py"))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=HALT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"did not halt in {HALT_SECONDS} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
    return None


_CHILD = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"


def stock_kernel() -> Path | None:
    """The newest readable kernel in /boot."""
    kernels = [path for path in Path(BOOT).glob("vmlinuz-*") if os.access(path, os.R_OK)]
    return max(kernels, default=None)


def boots(qemu: str, kernel: Path, seconds: int) -> str | None:
    """Start a kernel under KVM and wait for its first output on the serial line.

    Returns:
        The problem; None if it produced output.
    """
    command = [
        *[
            qemu,
            "-accel",
            "kvm",
            "-m",
            "256",
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
            "-serial",
            "stdio",
        ],
        *["-kernel", str(kernel), "-append", "console=ttyS0 earlyprintk=serial panic=-1"],
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
        heard, complaint = done.stdout, done.stderr.decode(errors="replace").strip()
    except subprocess.TimeoutExpired as late:
        heard, complaint = late.stdout or b"", f"silent for {seconds} s"
    if FIRST_WORD in heard:
        return None
    return (complaint.splitlines() or ["ended without a word"])[-1]


def _kvm(state: State, seen: str, fix: str | None = None) -> Finding:
    return Finding(part=Part.VM, name="KVM", state=state, seen=seen, fix=fix)
