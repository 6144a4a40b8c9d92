"""The programs and firmware of a machine, each with the command that installs it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kluis.errors import UnavailableError
from kluis.frozen import frozen
from kluis.tee.doctor.programs import OVMF

QEMU = "qemu-system-x86_64"
PACKAGES = {
    QEMU: "qemu-system-x86",
    "swtpm": "swtpm",
    "bwrap": "bubblewrap",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
WALLS = ("bwrap", "setpriv", "unshare")
"""The programs that build the walls."""
BIOS = Path("/usr/share/seabios/bios-256k.bin")
OVMF_CODE, OVMF_VARIABLES = OVMF


@frozen
class Firmware:
    """A machine's firmware.

    Attributes:
        code: the firmware.
        variables: its variables as they are at first; None for a BIOS.
    """

    code: Path
    variables: Path | None


def find(name: str) -> Path:
    """The path of a program.

    Raises:
        UnavailableError: it is not installed; with the command that installs it.
    """
    path = shutil.which(name)
    if path is None:
        raise UnavailableError(
            f"machine: {name} is not on the PATH",
            hint=f"apt-get install {PACKAGES[name]}",
            code="no_machine_program",
        )
    return Path(os.path.realpath(path))


def firmware(boot: str) -> Firmware:
    """The firmware for a boot, ``direct`` or ``uefi``.

    Raises:
        UnavailableError: it is not installed; with the command that installs it.
    """
    files = Firmware(OVMF_CODE, OVMF_VARIABLES) if boot == "uefi" else Firmware(BIOS, None)
    package = "ovmf" if boot == "uefi" else "seabios"
    for path in (files.code, *([files.variables] if files.variables is not None else [])):
        if not os.access(path, os.R_OK):
            raise UnavailableError(
                f"machine: firmware for {boot}: no {path}",
                hint=f"apt-get install {package}",
                code="no_machine_firmware",
            )
    return files
