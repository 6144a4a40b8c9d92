"""A Debian guest with Debian's own kernel, in QEMU without hardware help: Kluis as installed, as root.

The root file system is made by debootstrap and is the guest's initial RAM disk. bubblewrap cannot pivot away
from that one, so the guest first copies itself into a tmpfs.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

TOOLS = ("debootstrap", "qemu-system-x86_64", "cpio", "apt-get", "dpkg-deb")
PACKAGES = "python3,python3-venv,bubblewrap,udev,kmod,util-linux"
INIT = """#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
if [ ! -e /switched ]; then
  mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
  mkdir -p /new; mount -t tmpfs -o size=85% new /new
  for part in bin etc lib lib64 opt root sbin usr var home; do cp -a /$part /new/; done
  mkdir -p /new/proc /new/sys /new/dev /new/run /new/tmp
  cp /init /guest.sh /new/; touch /new/switched
  for part in proc sys dev; do mount --move /$part /new/$part; done
  exec switch_root /new /init
fi
exec </dev/console >/dev/console 2>&1
mount -t tmpfs run /run; mkdir -p /dev/shm; mount -t tmpfs shm /dev/shm
ulimit -l 8192
cd /root; bash /guest.sh
echo o >/proc/sysrq-trigger; sleep 60
"""


def root(folder: Path, programs: Path) -> Path:
    """A Debian 13 with the Kluis of an environment of Python 3.13, whose programs are in ``programs``."""
    made = folder / "root"
    line = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "trixie", str(made)]
    subprocess.run(line, check=True, capture_output=True)
    subprocess.run(["chroot", str(made), "python3", "-m", "venv", "--without-pip", "/opt/kluis"], check=True)
    there = next((made / "opt/kluis/lib").glob("python*/site-packages"))
    here = next((programs.parent / "lib").glob("python*/site-packages"))
    # Arrow is for tables, and a third of the disk that the guest would have to unpack.
    shutil.copytree(here, there, dirs_exist_ok=True, ignore=shutil.ignore_patterns("pyarrow*"))
    command = made / "opt/kluis/bin/kluis"
    command.write_text("#!/opt/kluis/bin/python\nfrom kluis.cli.main import main\nraise SystemExit(main())\n")
    command.chmod(0o755)
    for part in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(made / part, ignore_errors=True)
    return made


def kernel(folder: Path) -> Path:
    """Debian's own kernel for clouds, the newest there is."""
    said = subprocess.run(
        ["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True, check=True
    ).stdout
    name = next(line.split()[-1] for line in said.splitlines() if "Depends:" in line)
    subprocess.run(["apt-get", "download", name], cwd=folder, check=True, capture_output=True)
    subprocess.run(["dpkg-deb", "-x", str(next(folder.glob("*.deb"))), str(folder / "kernel")], check=True)
    return next((folder / "kernel/boot").glob("vmlinuz-*"))


def run(made: Path, image: Path, script: str, seconds: int) -> str:
    """Boot, run a script as root, power off; returns what the console showed."""
    (made / "init").write_text(INIT)
    (made / "init").chmod(0o755)
    (made / "guest.sh").write_text(script)
    disk = made.with_suffix(".cpio")
    pack = "find . -path './proc/*' -prune -o -path './sys/*' -prune -o -print0 | cpio -0 -o -H newc --quiet"
    with disk.open("wb") as out:
        subprocess.run(["bash", "-c", pack], cwd=made, stdout=out, check=True)
    line = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "5G"]
    line += ["-nographic", "-no-reboot", "-nic", "none", "-kernel", str(image), "-initrd", str(disk)]
    line += ["-append", "console=ttyS0 quiet rdinit=/init panic=1"]
    console = made.with_suffix(".console")
    with console.open("wb") as out:
        subprocess.run(
            line, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, timeout=seconds, check=False
        )
    return console.read_text(errors="replace").replace("\r", "")
