"""Where a platform keeps its state, its socket and its layers: the system's, or one user's."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from kluis.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Places:
    """The places of one platform.

    Attributes:
        state: secrets, authority, counters, ``launch.toml``; mode 0700.
        runtime: the socket and the layers' mount point.
    """

    system: bool
    state: Path
    runtime: Path

    @property
    def socket(self) -> Path:
        """Where hosts connect."""
        return self.runtime / "platform.sock"

    @property
    def layers(self) -> Path:
        """Mount point of the private tmpfs; empty for everybody but the platform."""
        return self.runtime / "layers"


SYSTEM = Places(True, Path("/var/lib/kluis"), Path("/run/kluis"))
"""The machine's platform, set up by root."""


def mine() -> Places:
    """The platform that this process would start: the machine's as root, else this user's.

    The environment variable ``KLUIS_HOME`` names another directory for it.
    """
    root, home = os.geteuid() == 0, os.environ.get("KLUIS_HOME")
    if home:
        return Places(root, Path(home) / "state", Path(home) / "run")
    if root:
        return SYSTEM
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "kluis"
    return Places(False, data / "state", data / "run")


def candidates() -> list[Places]:
    """The platforms a host may talk to, the machine's first; ``KLUIS_HOME`` names one alone."""
    return [mine()] if os.environ.get("KLUIS_HOME") else list(dict.fromkeys((SYSTEM, mine())))


def mark(path: Path) -> list[int]:
    """What tells the file at ``path`` from any that stood or will stand there; empty where none does."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return []
    return [found.st_dev, found.st_ino, found.st_ctime_ns]


def prepare(places: Places, uid: int, gid: int) -> None:
    """Make the directories, and refuse ones that others could have prepared.

    Raises:
        UnavailableError: a directory is another's, or open to others; says the command that mends it.
    """
    for directory, mode, owner, group in (
        (places.state, 0o700, uid, gid),
        (places.runtime, 0o755, os.geteuid(), os.getegid()),
    ):
        if not directory.exists():
            directory.mkdir(mode=mode, parents=True)
            os.chmod(directory, mode)
            os.chown(directory, owner, group)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
            raise UnavailableError(
                f"{directory}: owner: want {owner}, got {found.st_uid}",
                hint=f"chown {owner} {directory}",
                code="state_owner",
            )
        if found.st_mode & 0o777 & ~mode:
            raise UnavailableError(
                f"{directory}: mode: want {mode:04o}, got {stat.S_IMODE(found.st_mode):04o}",
                hint=f"chmod {mode:04o} {directory}",
                code="state_mode",
            )
    places.layers.mkdir(mode=0o700, exist_ok=True)
