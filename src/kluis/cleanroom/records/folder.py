"""Safe access to a folder that others can write: names are opened from its descriptor, and links are not
followed.

Others can put a link, a FIFO or a file of any size in any place, and change it between two accesses. So a
path is walked one name at a time (``openat`` with ``O_NOFOLLOW``), files are created exclusively, reads are
bounded, and a name is replaced or removed only within an open folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kluis import files
from kluis.errors import FormatError, UnavailableError, UsageError

MOST_NAMES: Final = 10_000


class Folder:
    """A folder that several users can write.

    Args:
        path: chosen by its user; links in the path itself are followed, but none within the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str, most: int) -> bytes:
        """Read a file.

        Args:
            name: relative, with ``/`` between its parts.
            most: bytes.

        Raises:
            UnavailableError: it does not exist, cannot be read, or is not a regular file.
            FormatError: it is longer.
        """
        with self._within(name) as (folder, _):
            return files.read(self.path / name, most, folder)

    def has(self, name: str) -> bool:
        """Whether a regular file has this name."""
        return self.modification_time(name) is not None

    def modification_time(self, name: str) -> int | None:
        """The modification time of a regular file, in nanoseconds; None if there is none."""
        try:
            with self._within(name) as (folder, last):
                status = os.stat(last, dir_fd=folder, follow_symlinks=False)
        except (OSError, UnavailableError):
            return None
        return status.st_mtime_ns if stat.S_ISREG(status.st_mode) else None

    def names(self, name: str, ending: str = "", most: int = MOST_NAMES) -> tuple[str, ...]:
        """The names in a folder within this one, sorted; empty if there is no such folder.

        Args:
            name: relative.
            ending: of the returned names. Names that begin with a dot are left out.
            most: names in it, whatever their ending.

        Raises:
            UnavailableError: a link or another file type is in its place.
            FormatError: there are more.
        """
        matching = []
        try:
            with self._open_folders(name.split("/")) as folder, os.scandir(folder) as entries:
                for count, each in enumerate(entries, 1):
                    if count > most:
                        raise FormatError(
                            f"{self.path / name}: want at most {most} files, got more", code="too_large"
                        )
                    if each.name.endswith(ending) and not each.name.startswith("."):
                        matching.append(each.name)
        except FileNotFoundError:
            return ()
        return tuple(sorted(matching))

    def replace(self, name: str, data: bytes) -> None:
        """Write a file atomically; a link in its place is replaced, and not followed.

        Raises:
            UnavailableError: it cannot be written.
        """
        with self._within(name) as (folder, last):
            try:
                files.replace(folder, last, data, 0o666)
            except OSError as error:
                raise self._refusal(name, "written", error) from None

    def create(self, name: str, data: bytes) -> None:
        """Create a new file; if it cannot be written completely, it is removed.

        Raises:
            FileExistsError: the name is taken.
            UnavailableError: it cannot be written.
        """
        with self._within(name) as (folder, last):
            try:
                files.create(folder, last, data, 0o666)
            except FileExistsError:
                raise
            except OSError as error:
                raise self._refusal(name, "written", error) from None

    def make(self, name: str) -> None:
        """Create a folder within this one, unless it exists.

        Raises:
            UnavailableError: a link or another file type is in its place, or it cannot be created.
        """
        with self._within(name) as (folder, last):
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(last, 0o777, dir_fd=folder)
            except OSError as error:
                raise self._refusal(name, "made", error) from None
        with self._open_folders(name.split("/")):
            pass

    def remove(self, name: str) -> None:
        """Remove a name, if it exists; of a link, only the link.

        Raises:
            UnavailableError: its folder does not exist, or is a link; or it cannot be removed.
        """
        with self._within(name) as (folder, last):
            try:
                os.unlink(last, dir_fd=folder)
            except FileNotFoundError:
                return
            except OSError as error:
                raise self._refusal(name, "removed", error) from None

    def remove_empty(self, name: str) -> None:
        """Remove a folder, if it exists and is empty.

        Raises:
            UnavailableError: its parent folder does not exist, or is a link.
        """
        with contextlib.suppress(OSError), self._within(name) as (folder, last):
            os.rmdir(last, dir_fd=folder)

    @contextlib.contextmanager
    def _within(self, name: str) -> Iterator[tuple[int, str]]:
        """The open parent folder of a name, and its last part.

        Raises:
            UnavailableError: that folder does not exist, or is a link.
        """
        *parents, last = name.split("/")
        _check(last, name)
        with contextlib.ExitStack() as opened:
            try:
                folder = opened.enter_context(self._open_folders(parents))
            except FileNotFoundError:
                raise UnavailableError(
                    f"{self.path / name}: cannot be opened: {os.strerror(errno.ENOENT)}"
                ) from None
            yield folder, last

    @contextlib.contextmanager
    def _open_folders(self, parts: list[str]) -> Iterator[int]:
        where = self.path
        folder = self._enter(where, None, os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            for part in parts:
                _check(part, part)
                where /= part
                inner = self._enter(where, folder, os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _enter(self, where: Path, folder: int | None, flags: int) -> int:
        try:
            return os.open(where if folder is None else where.name, os.O_RDONLY | flags, dir_fd=folder)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise UnavailableError(f"{where}: want a folder, got a link or another thing") from None
            raise UnavailableError(f"{where}: cannot be opened: {error.strerror}") from None

    def _refusal(self, name: str, what: str, error: OSError) -> UnavailableError:
        return UnavailableError(f"{self.path / name}: cannot be {what}: {error.strerror}")


def _check(part: str, name: str) -> None:
    if part in ("", ".", "..") or "/" in part or "\0" in part:
        raise UsageError(f"want the name of a file in a room's folder, got {name[:80]!a}")
