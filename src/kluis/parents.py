"""The folders above a path: another user who may change one of them may exchange what the path leads to.

Every part of the path is examined, as it is written and as its links lead. So what was checked stays so: only
root and this user can rename a part of it. A folder with the sticky bit, such as ``/tmp``, may be writable,
since only an entry's owner replaces it there, and the entry is examined next.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from kluis.errors import UnavailableError

_MOST_LINKS: Final = 40


def require(path: Path, hint: str) -> None:
    """Refuse a path that another user may exchange; the path itself need not exist.

    Args:
        path: a folder or a file. Its own owner and mode are not examined, except that it is no link of
            another user.
        hint: what names another path.

    Raises:
        UnavailableError: another user owns a folder above or a link (``state_owner``), or may write a folder
            above (``state_mode``); or there are too many links (``state_links``).
    """
    parts = list(reversed((Path.cwd() / path).parts))
    done, links = Path(parts.pop()), 0
    _check_folder(done, done.lstat(), hint)
    while parts:
        here = done.parent if parts[-1] == os.pardir else done / parts[-1]
        parts.pop()
        try:
            status = here.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise UnavailableError(
                f"{here}: cannot be examined: {error.strerror}", hint=hint, code="state_owner"
            ) from None
        if not stat.S_ISLNK(status.st_mode):
            done = here
            if parts:
                _check_folder(done, status, hint)
            continue
        _check_owner(here, status, hint)
        links += 1
        if links > _MOST_LINKS:
            raise UnavailableError(
                f"{path}: links: want at most {_MOST_LINKS}, got more", hint=hint, code="state_links"
            )
        target = Path(os.readlink(here))
        if target.is_absolute():
            done = Path(target.anchor)
        parts += reversed(target.relative_to(done).parts if target.is_absolute() else target.parts)


def _check_folder(folder: Path, status: os.stat_result, hint: str) -> None:
    _check_owner(folder, status, hint)
    mode = status.st_mode
    writers = mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not _own_group(status.st_gid))
    if writers and not mode & stat.S_ISVTX:
        raise UnavailableError(
            f"{folder}: others may replace what is in it: mode: want no write for others,"
            f" got {stat.S_IMODE(mode):04o}",
            hint=f"chmod go-w {folder}; or {hint}",
            code="state_mode",
        )


def _check_owner(path: Path, status: os.stat_result, hint: str) -> None:
    own = os.geteuid()
    if status.st_uid not in (0, own):
        raise UnavailableError(
            f"{path}: its owner may replace what is in it: owner: want {f'{own} or 0' if own else 0},"
            f" got {status.st_uid}",
            hint=hint,
            code="state_owner",
        )


def _own_group(gid: int) -> bool:
    """Whether a group is root's, or only this user's: Debian and Fedora give each user such a group."""
    import grp  # a guest does without
    import pwd

    if gid == 0:
        return True
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and user.pw_gid == gid and set(group.gr_mem) <= {user.pw_name}
