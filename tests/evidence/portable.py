"""Run in a separate interpreter: take away what only Linux has, then verify; the last line is the result.

    python tests/evidence/portable.py VECTORS            every recorded piece of evidence
    python tests/evidence/portable.py kluis              the commands of standard input, each a list in JSON

The modules and functions that macOS or Windows do not have raise, as do all parts of Kluis that run enclaves.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.abc
import io
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

SYSTEM = (
    "fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "posix", "syslog", "spwd", "crypt", "nis",
    "ossaudiodev", "_posixsubprocess", "_posixshmem",
)  # fmt: skip
KLUIS = ("kluis.tee", "kluis.enclave", "kluis.host", "kluis.services", "kluis.serve", "kluis.cleanroom",
         "kluis.entry", "kluis.images", "kluis.measured", "kluis.parcels", "kluis_runtime")  # fmt: skip
FUNCTIONS = (
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_PATH", "O_TMPFILE", "chown", "eventfd",
    "fchmod", "fork", "forkpty", "getegid", "geteuid", "getgid", "getuid", "killpg", "memfd_create", "mkfifo",
    "openpty", "pidfd_open", "pipe2", "posix_fallocate", "posix_spawn", "preadv", "pwritev",
    "sched_getaffinity", "sendfile", "setgid",
    "setsid", "setuid", "splice", "statvfs", "sysconf", "uname", "unshare", "wait4", "waitid",
)  # fmt: skip


class _Absent(importlib.abc.MetaPathFinder):
    """Refuse the modules, as an interpreter of another system would."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name in SYSTEM or any(name == each or name.startswith(f"{each}.") for each in KLUIS):
            raise ModuleNotFoundError(f"No module named {name!r} (taken away)", name=name)


def _no_library(*_: Any, **__: Any) -> None:
    raise OSError("no shared library is loaded here")


def take_away() -> None:
    """Take away modules, functions and shared libraries."""
    for name in SYSTEM:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Absent())
    for name in FUNCTIONS:
        if hasattr(os, name):
            delattr(os, name)
    for holder, names in ((select, ("poll", "epoll")), (signal, ("SIGKILL", "pthread_sigmask"))):
        for name in names:
            delattr(holder, name)
    ctypes.CDLL.__init__ = _no_library  # type: ignore[method-assign,assignment]


def _run_each() -> None:
    """Run each command of standard input; its exit code and its output are a list in a line of JSON."""
    from kluis.cli.main import run

    for line in sys.stdin:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = run(json.loads(line))
        print(json.dumps([code, said.getvalue()]))


def main(argv: list[str]) -> int:
    """Verify, or run commands."""
    root = str(Path(__file__).resolve().parents[2])
    sys.path[:0] = [root, f"{root}/src"]
    import platformdirs.unix  # noqa: F401 - it chooses its module by the system
    import typer  # noqa: F401 - the parser of the command line is not what is tried here

    take_away()
    if argv == ["kluis"]:
        _run_each()
        return 0
    from tests.corpus.judge import judge
    from tests.corpus.record import find, read

    differing = {str(path): said for path in find(Path(argv[0])) if (said := judge(read(path)))}
    for path, said in differing.items():
        print(path, *said, sep="\n  ")
    loaded = sorted(name for name in sys.modules if name in SYSTEM or name.startswith(tuple(KLUIS)))
    print(f"{len(find(Path(argv[0])))} records, {len(differing)} differ, loaded: {loaded}")
    return 1 if differing or loaded else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
