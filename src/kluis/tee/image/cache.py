"""Where builds keep what is dear to make again: wheels, and bytecode. Nothing in it is trusted."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from kluis.errors import UnavailableError


def folder() -> Path:
    """The user's cache folder, mode 0700; made if absent.

    Raises:
        UnavailableError: it belongs to someone else, or cannot be made.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    home = os.environ.get("HOME", "")
    if os.path.isabs(root):
        path = Path(root) / "kluis"
    elif os.path.isabs(home):
        path = Path(home) / ".cache" / "kluis"
    else:
        path = Path(tempfile.gettempdir()) / f"kluis-cache-{os.geteuid()}"
    return made(path)


def made(path: Path) -> Path:
    """Make ``path``, mode 0700, and its parts ``bytecode`` and ``wheels``.

    Raises:
        UnavailableError: as ``folder``.
    """
    hint = "set XDG_CACHE_HOME to a folder of your own"
    try:
        for part in (path, path / "bytecode", path / "wheels"):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be made: {error.strerror}", hint=hint) from error
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise UnavailableError(f"{path}: want it writable by you alone", hint=hint)
    return path
