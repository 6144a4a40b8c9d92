"""The cache of builds: wheels, and bytecode.

The folder is private to the user. Wheels and their files are checked against the lock each time they are
used; bytecode is found by the hash of its sources, and checked for damage.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kluis import parents
from kluis.errors import UnavailableError
from kluis.frozen import frozen


@frozen
class Cache:
    """A private folder of the user, mode 0700, and its four parts."""

    path: Path

    @property
    def bytecode(self) -> Path:
        """Packs of compiled modules, by the hash of their sources."""
        return self.path / "bytecode"

    @property
    def wheels(self) -> Path:
        """Wheels, by their hash."""
        return self.path / "wheels"

    @property
    def runtimes(self) -> Path:
        """Base layers extracted to run during builds, by their digest."""
        return self.path / "runtimes"

    @property
    def scratch(self) -> Path:
        """Folders of builds that run now."""
        return self.path / "scratch"

    @contextlib.contextmanager
    def laying(self) -> Iterator[None]:
        """Hold the runtimes while the ``with`` lasts: one build at a time checks and replaces them."""
        descriptor = os.open(self.runtimes, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def work(self) -> Iterator[Path]:
        """Create a folder for one build and remove it after; folders of killed builds are removed, too."""
        self._sweep()
        path, descriptor = self._make_locked()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)

    def _make_locked(self) -> tuple[Path, int]:
        while True:
            path = Path(tempfile.mkdtemp(dir=self.scratch))
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                if path.exists():
                    return path, descriptor
                # Another build took this folder for an abandoned one, before it was locked.
                os.close(descriptor)

    def _sweep(self) -> None:
        for path in self.scratch.iterdir():
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(descriptor)


def of_user() -> Cache:
    """The user's cache, in ``XDG_CACHE_HOME`` or ``~/.cache``; created if absent.

    Raises:
        UnavailableError: it belongs to another user, who may also exchange it, or cannot be created.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    home = os.environ.get("HOME", "")
    if os.path.isabs(root):
        return at(Path(root) / "kluis")
    if os.path.isabs(home):
        return at(Path(home) / ".cache" / "kluis")
    return at(Path(tempfile.gettempdir()) / f"kluis-cache-{os.geteuid()}")


def at(path: Path) -> Cache:
    """The cache at ``path``; created if absent.

    Raises:
        UnavailableError: as ``of_user``.
    """
    hint = "set XDG_CACHE_HOME to your own folder"
    cache = Cache(path)
    parents.require(path, hint)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
        # Before anything is made in it: a link there leads where its owner likes.
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise UnavailableError(f"{path}: want it writable only by you", hint=hint)
        for part in (cache.bytecode, cache.wheels, cache.runtimes, cache.scratch):
            part.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be made: {error.strerror}", hint=hint) from error
    return cache
