"""The walls around a machine's processes, QEMU and swtpm, which bubblewrap builds.

Fresh mount, pid, net, ipc, uts and cgroup namespaces; the program and its libraries, read-only; ``/proc`` of
this namespace, ``/dev/null`` and ``/dev/urandom``; no network; no environment. If root starts it, a separate
user id, and of the capabilities only the right to lock memory. The preloaded library ends it with the process
that started it, keeps debuggers away, and makes the guest's memory secret.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from kluis.frozen import frozen

LIFELINE = 3
"""The descriptor whose end ends the process; as in ``native/preload/machine.c``."""
FIRST_FD = 4
"""The lowest descriptor of the program's own."""
UIDS = 0x4B4D0000
"""Lowest of the user ids that machines run under."""
UID_COUNT = 1 << 16
CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_IPC_LOCK")
LOCKING = ("--inh-caps=-all,+ipc_lock", "--ambient-caps=-all,+ipc_lock")
"""Of all capabilities only the right to lock memory is kept: secret memory is locked."""
SETPRIV, UNSHARE = "/usr/bin/setpriv", "/usr/bin/unshare"
PRELOADED = "/k/machine.so"
DEVICES = ("/dev/null", "/dev/urandom")
SHARED = ("/usr/lib", "/usr/lib64", "/usr/share/qemu", "/usr/share/seabios", "/etc/ld.so.cache")
LINKS = {"usr/lib": "/lib", "usr/lib64": "/lib64"}


@frozen
class Walls:
    """The walls of one process.

    Attributes:
        program: absolute path.
        library: the preloaded library; None: without it, the process has no guardian and no secret memory.
        uid: its user id and group id; 0 keeps the caller's.
        groups: additional group ids.
        devices: device files in addition to :data:`DEVICES`.
        writable: (folder on this machine, path inside) that it may write.
    """

    program: Path
    library: Path | None
    uid: int
    groups: tuple[int, ...] = ()
    devices: tuple[str, ...] = ()
    writable: Mapping[Path, str] = field(default_factory=dict)


def command(walls: Walls, arguments: Sequence[str], *, bwrap: Path) -> list[str]:
    """The command line that builds ``walls`` and runs the program with ``arguments`` inside.

    bubblewrap's first child waits for bubblewrap, even if that was killed in between. So bubblewrap is the
    first process of a pid namespace, with which everything in it ends.
    """
    line = [SETPRIV, "--pdeathsig", "KILL", "--", UNSHARE, "--pid", "--fork", "--kill-child=KILL"]
    line += ["--", str(bwrap)] if walls.uid else ["--user", "--map-current-user", "--", str(bwrap)]
    line += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    line += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--hostname", "machine"]
    line += ["--clearenv", "--cap-drop", "ALL"]
    for capability in CAPABILITIES if walls.uid else ():
        line += ["--cap-add", capability]
    # bubblewrap makes the parents of a mount for root only; made here they are accessible.
    for folder in ("/dev", "/etc", "/k", "/usr", "/usr/share", *_parents(walls.program)):
        line += ["--dir", folder]
    line += ["--proc", "/proc"]
    for device in (*DEVICES, *walls.devices):
        line += ["--dev-bind", device, device]
    for shared in SHARED:
        line += ["--ro-bind-try", shared, shared]
    for target, link in LINKS.items():
        line += ["--symlink", target, link]
    line += _bind_options([walls.program, *([Path(SETPRIV)] if walls.uid else [])])
    if walls.library is not None:
        line += ["--ro-bind", str(walls.library), PRELOADED, "--setenv", "LD_PRELOAD", PRELOADED]
    for directory, inside in walls.writable.items():
        line += ["--bind", str(directory), inside]
    line += ["--chdir", "/", "--remount-ro", "/", "--"]
    return [*line, *_as_user(walls), str(walls.program), *arguments]


def _parents(program: Path) -> list[str]:
    return [str(folder) for folder in reversed(program.parents[:-1])]


def _bind_options(programs: Iterable[Path]) -> list[str]:
    return [part for program in programs for part in ("--ro-bind", str(program), str(program))]


def _as_user(walls: Walls) -> list[str]:
    if not walls.uid:
        return []
    groups = ["--groups", ",".join(map(str, walls.groups))] if walls.groups else ["--clear-groups"]
    ids = ["--reuid", str(walls.uid), "--regid", str(walls.uid)]
    return [SETPRIV, *ids, *groups, *LOCKING, "--no-new-privs", "--"]


def uid() -> int:
    """A user id for one machine's processes: random, out of 65,536; 0 if this process is not root."""
    return UIDS + int.from_bytes(os.urandom(2), "big") % UID_COUNT if os.geteuid() == 0 else 0
