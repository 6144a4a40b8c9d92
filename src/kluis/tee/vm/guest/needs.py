"""Find the programs and files that a build takes from this machine, and name the packages that have them.

Nothing is fetched while a guest is built: what is missing is an error with the line that installs it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from kluis.errors import UnavailableError
from kluis.frozen import frozen

KERNEL: Final = "linux-image-cloud-amd64"
STUB: Final = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
UKIFY: Final = Path("/usr/bin/ukify")
SYSTEM_PYTHON: Final = Path("/usr/bin/python3")
PROGRAMS: Final = {"mkfs.erofs": "erofs-utils", "bwrap": "bubblewrap"}
FILES: Final = {
    STUB: "systemd-boot-efi",
    UKIFY: "systemd-ukify",
    SYSTEM_PYTHON: "python3",
    Path("/usr/lib/python3/dist-packages/pefile.py"): "python3-pefile",
}
_RELEASE: Final = re.compile(r"vmlinuz-((\d+)\.(\d+)\.(\d+)\S{0,64}-cloud-amd64)", re.ASCII)


@frozen
class Kernel:
    """A kernel of Debian for clouds.

    Attributes:
        release: as ``uname -r`` prints it.
        image: the file that boots.
        modules: the folder of its modules.
    """

    release: str
    image: Path
    modules: Path


@frozen
class Needs:
    """What a build takes from this machine."""

    kernel: Kernel
    mkfs: Path
    bubblewrap: Path


def find(root: Path | None = None) -> Needs:
    """Find everything.

    Args:
        root: where the kernel's package is unpacked; None: installed.

    Raises:
        UnavailableError: something is missing; with the line that installs all of it.
    """
    programs = {name: shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in PROGRAMS}
    missing = [package for name, package in PROGRAMS.items() if programs[name] is None]
    missing += [package for path, package in FILES.items() if not path.exists()]
    kernel = newest(root or Path("/"))
    if kernel is None:
        missing.append(KERNEL)
    if missing or kernel is None:
        raise UnavailableError(
            f"guest: want the packages {', '.join(missing)}, got none",
            hint=f"apt-get install {' '.join(dict.fromkeys(missing))}",
            code="guest_packages",
        )
    mkfs, bubblewrap = (Path(path) for path in programs.values() if path is not None)
    return Needs(kernel, mkfs, bubblewrap)


def newest(root: Path) -> Kernel | None:
    """The newest of Debian's kernels for clouds below ``root``; None if there is none."""
    kernels: list[tuple[tuple[int, ...], Kernel]] = []
    for image in (root / "boot").glob("vmlinuz-*"):
        name = _RELEASE.fullmatch(image.name)
        if name is None:
            continue
        for modules in (root / "usr/lib/modules" / name[1], root / "lib/modules" / name[1]):
            if (modules / "kernel").is_dir():
                kernels.append((tuple(map(int, name.groups()[1:])), Kernel(name[1], image, modules)))
                break
    return max(kernels, key=lambda each: (each[0], each[1].release))[1] if kernels else None


def run(line: list[str | Path], what: str, environment: dict[str, str] | None = None) -> str:
    """Run a program of this machine without its environment, and return what it printed.

    Raises:
        UnavailableError: it failed; with its last words.
    """
    done = subprocess.run(
        [str(part) for part in line],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise UnavailableError(f"{what}: ended with status {done.returncode}: {words}", code="guest_tool")
    return done.stdout
