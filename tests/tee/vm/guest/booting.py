"""Boot a guest in QEMU without hardware help, one at a time, and return what its console showed."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import pytest

from kluis.tee.image import sources
from kluis.tee.vm.guest import Guest

FIRMWARE: Final = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VARIABLES: Final = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
SECONDS: Final = 400
LOCK: Final = Path(tempfile.gettempdir()) / "kluis-tcg.lock"
AGENT: Final = b"""
from pathlib import Path

from kluis.tee.platform import start
from kluis.tee import places

status = start.ask(places.mine(), {"op": "status"})
print("GUEST platform", status["level"], status["missing"], flush=True)
for register in (4, 9, 11, 12):
    path = Path(f"/sys/class/tpm/tpm0/pcr-sha256/{register}")
    if path.exists():
        print(f"GUEST pcr{register}", path.read_text().strip().lower(), flush=True)
for name in ("sh", "bash", "login", "sshd", "su", "mount"):
    for folder in ("/bin", "/sbin", "/usr/bin", "/usr/sbin"):
        if Path(folder, name).exists():
            print("GUEST has", name, flush=True)
try:
    Path("/usr/written").write_bytes(b"")
except OSError as error:
    print("GUEST root", error.strerror, flush=True)
print("GUEST modules", Path("/proc/sys/kernel/modules_disabled").read_text().strip(), flush=True)
print("GUEST sysrq", Path("/proc/sys/kernel/sysrq").read_text().strip(), flush=True)
print("GUEST lockdown", Path("/sys/kernel/security/lockdown").read_text().strip(), flush=True)
print("GUEST programs", *sorted(
    process.read_bytes().split(b"\\0")[0].decode() for process in Path("/proc").glob("[0-9]*/cmdline")
    if process.read_bytes()), flush=True)
"""
LAUNCHER: Final = b"""
from pathlib import Path

from kluis.tee.platform.client import Platform

size = int(Path("/proc/cmdline").read_text().partition("image.bytes=")[2].split()[0])
with open("/dev/vdb", "rb") as disk, open("/run/image.kluis", "wb") as image:
    while size and (data := disk.read(min(size, 1 << 20))):
        image.write(data)
        size -= len(data)
running = Platform.connect(start=False).launch("/run/image.kluis")
print("GUEST enclave", running.level, running.debug, running.image_id.hex(), flush=True)
print("GUEST configuration", running.launch_configuration.decode(), flush=True)
"""
LAUNCHES: Final = sources.of_bytes("kluis/tee/inside/__main__.py", LAUNCHER)
"""An agent that starts the image on the second disk."""
STAND_IN: Final = sources.of_bytes("kluis/tee/inside/__main__.py", AGENT)
"""An agent that only prints what a test wants to know, and ends."""

qemu = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None, reason="apt-get install qemu-system-x86"
)
firmware = pytest.mark.skipif(
    not FIRMWARE.exists() or shutil.which("swtpm") is None, reason="apt-get install ovmf swtpm"
)


def boot(
    guest: Guest,
    work: Path,
    *,
    uefi: bool,
    cpus: int = 2,
    command_line: str | None = None,
    disk: Path | None = None,
) -> str:
    """Boot until the guest powers off; returns its console. ``disk`` is one more, after the root."""
    line = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"]
    line += ["-smp", str(cpus), "-m", "2G", "-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio"]
    disks = []
    tpm = None
    if uefi:
        system = work / "system/EFI/BOOT"
        system.mkdir(parents=True)
        shutil.copyfile(guest.unified, system / "BOOTX64.EFI")
        shutil.copyfile(VARIABLES, work / "variables")
        (work / "tpm").mkdir()
        state = ["--tpmstate", f"dir={work / 'tpm'}", "--ctrl", f"type=unixio,path={work / 'control'}"]
        tpm = subprocess.Popen(
            ["swtpm", "socket", "--tpm2", *state, "--flags", "startup-clear", "--terminate"]
        )
        line += ["-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}"]
        line += ["-drive", f"if=pflash,format=raw,file={work / 'variables'}"]
        line += [
            "-chardev",
            f"socket,id=tpm,path={work / 'control'}",
            "-tpmdev",
            "emulator,id=tpm,chardev=tpm",
        ]
        line += ["-device", "tpm-crb,tpmdev=tpm"]
        disks.append(f"fat:{work / 'system'}")
    else:
        line += ["-kernel", str(guest.kernel), "-initrd", str(guest.initrd)]
        line += ["-append", command_line or guest.command_line]
    disks += [str(guest.root), *([] if disk is None else [str(disk)])]
    for number, path in enumerate(disks):
        line += ["-drive", f"if=none,id=d{number},file={path},format=raw,readonly=on"]
        line += ["-device", f"virtio-blk-pci,drive=d{number},bootindex={number + 1}"]
    try:
        with LOCK.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = subprocess.run(
                line, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
            )
    finally:
        if tpm is not None:
            tpm.kill()
            tpm.wait()
    return (done.stdout + done.stderr).decode(errors="replace").replace("\r", "")


def said(console: str) -> dict[str, str]:
    """What the stand-in printed, by its first word."""
    # Firmware leaves control characters without a new line before the first.
    lines = [line.partition("GUEST ")[2] for line in console.splitlines() if "GUEST " in line]
    return {name: rest for name, _, rest in (line.partition(" ") for line in lines)}
