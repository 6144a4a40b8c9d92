"""``kluis units``: have systemd start the platform and the services."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import Annotated, Final

from kluis import files
from kluis.cli import render
from kluis.cli.machine import unit_files
from kluis.cli.parameters import argument, flag, option
from kluis.errors import UnavailableError, UsageError
from kluis.tee.platform.start import USER

FOLDER: Final = "etc/systemd/system"
MOST_BYTES: Final = 1 << 16


def install(
    arguments: Annotated[
        list[str] | None,
        argument("Arguments of kluis serve, after --: services and options; by default all.", "[SERVE...]"),
    ] = None,
    user: Annotated[bool, flag("For your own systemd, at level process-user.", "--user")] = False,
    system: Annotated[
        bool, flag("For the machine's systemd, as root; the default for root.", "--system")
    ] = False,
    root: Annotated[Path | None, option("Write below another root, such as an image's.", "DIR")] = None,
    dry_run: Annotated[bool, flag("Print the units, and write nothing.", "--dry-run")] = False,
) -> None:
    """Write units that start the platform and the services at boot.

    Prints how to enable them.

    For example: kluis units install --system -- attestation keyvault --port 9000
    """
    if user and system:
        raise UsageError("units: want --user or --system, got both")
    if user and root is not None:
        raise UsageError("--root: want --system, got --user")
    for_machine = system or root is not None or (not user and os.geteuid() == 0)
    program = str(_program())
    written = {
        unit_files.PLATFORM: unit_files.platform(program, system=for_machine),
        unit_files.SERVICES: unit_files.services(program, arguments or (), system=for_machine),
    }
    folder = (root or Path("/")) / FOLDER if for_machine else _own_folder()
    value = {"folder": str(folder), "units": written}
    if dry_run:
        render.out(value, "\n".join(f"# {folder / name}\n{text}" for name, text in written.items()))
        return
    for name in written:
        _check(folder / name)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in written.items():
        files.write(folder / name, text.encode())
        (folder / name).chmod(0o644)
    render.out(value, "\n".join(f"written: {folder / name}" for name in written))
    manager = "systemctl" if for_machine else "systemctl --user"
    render.note(f"next: {manager} daemon-reload && {manager} enable --now {' '.join(written)}")
    if not for_machine:
        render.note("they end when you log out, unless: loginctl enable-linger")
    elif root is None and not _exists(USER):
        render.note(f"first: useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {USER}")


def _program() -> Path:
    """The command line of this installation, which the units start.

    Raises:
        UnavailableError: it is not installed.
    """
    program = Path(sys.executable).with_name("kluis")
    if not os.access(program, os.X_OK):
        raise UnavailableError(
            f"{program}: want the command kluis, got none", hint="pip install 'kluis[services]'"
        )
    return program


def _own_folder() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "systemd/user"


def _check(path: Path) -> None:
    """Refuse to replace what someone else wrote.

    Raises:
        UsageError: the file exists, and is not one of ours.
    """
    if not path.exists():
        return
    if not files.read(path, MOST_BYTES).startswith(unit_files.MARK.encode()):
        raise UsageError(
            f"{path}: want a unit that kluis units wrote, got another", hint=f"mv {path} {path}.old"
        )


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


COMMANDS = (install,)
