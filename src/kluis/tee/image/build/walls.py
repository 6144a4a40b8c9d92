"""Sandbox an application that a build imports: its code may be hostile, and runs as the user.

bubblewrap builds the sandbox, as it does an enclave's: fresh mount, pid, net, ipc and uts namespaces; a root
that contains the interpreter and the layers, read-only, ``/dev/null``, ``/dev/urandom`` and an empty
``/tmp``; no ``/proc``, no home, no environment of the user's. An ordinary user's build gets a user namespace;
root's gets a user id that owns nothing. :mod:`kluis.tee.image.build.asked` sets the resource limits and
filters the system calls.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kluis.errors import UnavailableError
from kluis.tee.image.build.interpreter import Interpreter
from kluis.tee.process import native, sandbox

MOST_MEMORY_BYTES: Final = 8 << 30
"""Address space."""
MOST_OUTPUT_BYTES: Final = 64 << 20
"""Bytes of each file that is written, of standard output, and of ``/tmp``."""
MOST_OPEN_FILES: Final = 256
MOST_THREADS: Final = 64
IDS: Final = 0x4B4D0000
"""First of the 65,536 user ids for builds by root."""
NOBODY: Final = 65534
PROGRAM: Final = "/k/asked.py"


def bubblewrap() -> str:
    """The path of bubblewrap.

    Raises:
        UnavailableError: it is not on the PATH; code ``no_bwrap``.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise UnavailableError(
            "bubblewrap: bwrap is not on the PATH, and a build imports an application only within its walls",
            hint="apt-get install bubblewrap",
            code="no_bwrap",
        )
    return os.path.abspath(program)


def own_id() -> int:
    """The user id for this process's build if root may choose one; 0: use a user namespace."""
    if os.geteuid() != 0:
        return 0
    for wanted in (IDS + os.getpid() % (1 << 16), NOBODY):
        if all(_is_mapped(wanted, kind) for kind in ("uid_map", "gid_map")):
            return wanted
    return 0  # root of a container that has one user id


def _is_mapped(wanted: int, kind: str) -> bool:
    lines = [
        [int(word) for word in line.split()] for line in Path("/proc/self", kind).read_text().splitlines()
    ]
    return any(first <= wanted < first + count for first, _, count in lines)


def limits(seconds: int) -> dict[str, int]:
    """The limits of one process in the sandbox, by their names in ``resource``."""
    return {
        "RLIMIT_AS": MOST_MEMORY_BYTES,
        "RLIMIT_CPU": seconds,
        "RLIMIT_FSIZE": MOST_OUTPUT_BYTES,
        "RLIMIT_NOFILE": MOST_OPEN_FILES,
        "RLIMIT_NPROC": MOST_THREADS,
    }


def command(
    mounts: Iterable[tuple[Path, str]], python: Interpreter, program: Path, settings: str, own_id: int
) -> list[str]:
    """The command line that runs ``program`` in the sandbox.

    Args:
        mounts: (folder outside, mount point inside) of each, read-only; in order, the outer ones first.
        python: the interpreter that runs it.
        program: a Python file.
        settings: its argument.
        own_id: as :func:`own_id` chose it.

    Raises:
        UnavailableError: as :func:`bubblewrap`.
    """
    line = [bubblewrap(), "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    line += [
        "--unshare-cgroup-try",
        "--die-with-parent",
        "--new-session",
        "--hostname",
        "build",
        "--clearenv",
    ]
    line += ["--cap-drop", "ALL"]
    if own_id:
        line += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        line += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    for name, value in sandbox.environment(1, MOST_MEMORY_BYTES).items():
        line += ["--setenv", name, value]
    line += ["--dir", "/dev", *(part for each in sandbox.DEVICES for part in ("--dev-bind", each, each))]
    line += ["--dir", "/k", "--ro-bind", str(python.tree), native.PYTHON, "--ro-bind", str(program), PROGRAM]
    for outside, inside in mounts:
        line += ["--ro-bind", str(outside), inside]
    line += ["--perms", "1777", "--size", str(MOST_OUTPUT_BYTES), "--tmpfs", "/tmp"]  # noqa: S108 (within)
    line += ["--chdir", "/", "--remount-ro", "/", "--"]
    return [*line, *Interpreter(Path(native.PYTHON)).command(PROGRAM, settings)]


def open_to_all(folders: Iterable[Path]) -> None:
    """Let every user read what is in root's folders: a build's separate user id has no other access.

    The folders above stay private to root, so nobody outside can reach them.
    """
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for path in (parent, *(os.path.join(parent, name) for name in names)):
                mode = stat.S_IMODE(os.lstat(path).st_mode)
                wanted = mode | 0o444 | (0o111 if mode & 0o100 else 0)
                if wanted != mode and not os.path.islink(path):
                    os.chmod(path, wanted)


def refusal(words: str) -> UnavailableError:
    """The error if a build got no sandbox; ``words`` is bubblewrap's output."""
    return UnavailableError(
        f"bubblewrap: cannot build walls around the application: {words}",
        hint="as root, or with the command that kluis doctor prints at 'user namespaces'; in a container,"
        " give it CAP_SYS_ADMIN, as docker run --privileged does",
        code="no_walls",
    )
