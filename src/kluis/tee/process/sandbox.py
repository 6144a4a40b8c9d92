"""The sandbox of a process enclave, which bubblewrap builds before the guardian starts.

Fresh mount, pid, net, ipc, uts and cgroup namespaces; a root file system with the measured layers, read-only,
``/dev/null`` and ``/dev/urandom``; no ``/proc``, no ``/sys``, no network except an unconfigured loopback;
only the environment given here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from kluis.tee.process import native

MEBIBYTE = 1 << 20
RESERVE = 256 * MEBIBYTE
"""Address space in addition to the heap, bytes: libraries reserve much that they never touch."""

ENCLAVE_UIDS = 0x4B4C0000
"""Lowest of the user ids that enclaves run under."""

CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_IPC_LOCK")
CALLS_FD, CONTROL_FD, PLATFORM_FD, LAUNCH_FD, INDEXES_FD = 3, 4, 5, 6, 7
SCRATCH_FD = 9
SCRATCH = "/scratch"
SCRATCH_CHANGED, CODE_CHANGED = 65, 66
"""Exit status of an enclave that read changed data from its scratch, and of one that imported an unmeasured
file.
"""
DEVICES = ("/dev/null", "/dev/urandom")
"""The only devices of this machine in an enclave; the launcher checks that the second is the kernel's."""
FIRST_GRANTED_FD = 10
MOST_GRANTED = 8
"""Sockets that a host may pass to one enclave at its launch."""

MAX_THREADS_BESIDE = 48
"""Threads beyond the manifest's: the pools of numerical libraries, the router, the warmer."""


class Walls(NamedTuple):
    """One launch, as sent to the spawner.

    Attributes:
        mounts: (directory on this machine, mount point inside) of each layer.
        python: ``python3.11``: the name of the standard library's directory.
        paths: ``sys.path`` inside, in order.
        heap_bytes, region_bytes: limit of allocations; reserved address space.
        threads: the manifest's.
        without: names of missing protections that the operator allowed to be missing.
        options: the launcher's letters: ``j`` generated code, ``d`` debug, ``s`` encrypted scratch.
        environment: the whole environment inside.
        uid: the enclave's user id; 0 keeps the caller's.
    """

    mounts: tuple[tuple[Path, str], ...]
    paths: tuple[str, ...]
    heap_bytes: int
    region_bytes: int
    threads: int
    without: str
    options: str
    environment: tuple[tuple[str, str], ...]
    uid: int


def inside_descriptors(count: int, *, scratch: bool = False) -> tuple[int, ...]:
    """The numbers inside of ``count`` descriptors: the runtime's five, scratch's, then granted sockets."""
    first = (CALLS_FD, CONTROL_FD, PLATFORM_FD, LAUNCH_FD, INDEXES_FD, *((SCRATCH_FD,) if scratch else ()))
    return (*first, *range(FIRST_GRANTED_FD, FIRST_GRANTED_FD + count - len(first)))


def environment(threads: int, heap_bytes: int, scratch_bytes: int = 0) -> dict[str, str]:
    """The environment of every enclave, in addition to what its manifest names.

    The pools of numerical libraries get as many threads as the manifest allows and the machine has. mimalloc
    keeps its memory, because the kernel's first touch of a secret page is slow. polars, which finds no memory
    size inside, gets the heap's size; otherwise it would compress data to spill it. If there is scratch,
    temporary files and polars' spill files go there.
    """
    pool = str(min(threads, len(os.sched_getaffinity(0))))
    pools = (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "POLARS_MAX_THREADS",
        "RAYON_NUM_THREADS",
    )
    fixed = {
        "HOME": "/",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "POLARS_SKIP_CPU_CHECK": "1",
        "JOBLIB_MULTIPROCESSING": "0",
    }
    allocator = {"MIMALLOC_ARENA_RESERVE": "65536", "MIMALLOC_PURGE_DELAY": "-1"}
    size = {"POLARS_OVERRIDE_TOTAL_MEMORY_MB": str(heap_bytes // MEBIBYTE)}
    scratch = {"TMPDIR": SCRATCH, "POLARS_OOC_SPILL_DIR": f"{SCRATCH}/polars"} if scratch_bytes else {}
    return {**fixed, **allocator, **size, **scratch, **dict.fromkeys(pools, pool)}


def command(walls: Walls, *, bwrap: str, guardian: Path, info_fd: int) -> list[str]:
    """The command line that builds ``walls`` and starts the enclave inside."""
    line = [bwrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup"]
    line += ["--as-pid-1", "--die-with-parent", "--new-session", "--hostname", "enclave", "--clearenv"]
    line += ["--info-fd", str(info_fd), "--cap-drop", "ALL"]
    for capability in CAPABILITIES:
        line += ["--cap-add", capability]
    for name, value in walls.environment:
        line += ["--setenv", name, value]
    line += ["--dir", "/dev", *(part for device in DEVICES for part in ("--dev-bind", device, device))]
    line += ["--dir", "/k"]
    line += ["--ro-bind", str(guardian), "/k/guardian"]
    for directory, mount in walls.mounts:
        line += ["--ro-bind", str(directory), mount]
    line += ["--chdir", "/", "--remount-ro", "/", "--"]
    line += ["/k/guardian", str(walls.uid), str(walls.uid), str(walls.region_bytes), walls.without]
    line += [f"{native.PYTHON}/bin/kluis-launcher"]
    line += [native.PYTHON, str(walls.heap_bytes), str(walls.threads + MAX_THREADS_BESIDE)]
    return [*line, walls.without, walls.options, "kluis.entry", *walls.paths]


PLATFORM_HEAP = 256 * MEBIBYTE


class PlatformWalls(NamedTuple):
    """The sandbox of the platform itself.

    Attributes:
        state: its state directory, writable, its working directory inside.
        uid, gid: its ids; 0 keeps the caller's.
        without: names of protections that this machine does not have.
        settings: JSON for the daemon.
    """

    state: Path
    uid: int
    gid: int
    without: str
    region_bytes: int
    settings: str


def platform_command(walls: PlatformWalls, *, bwrap: str, guardian: Path, base: Path) -> list[str]:
    """The command line that starts ``kluis-platformd``, with the installed Kluis read-only, and its state.

    It runs on the runtime's interpreter and libraries, like enclaves: ``base`` is that layer, unpacked. The
    pid namespace is the machine's, because the kernel identifies enclaves to the daemon by pid.
    """
    import sysconfig  # the platform does without

    own = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    own |= {f"{folder}/lib-dynload" for folder in own}
    paths = [entry for entry in dict.fromkeys(sys.path) if entry and Path(entry).is_dir()]
    paths = [entry for entry in paths if os.path.realpath(entry) not in own]
    stdlib = f"{native.INSIDE}/python{sys.version_info.major}.{sys.version_info.minor}"
    line = [bwrap, "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup", "--die-with-parent"]
    line += ["--new-session", "--hostname", "platform", "--clearenv", "--cap-drop", "ALL"]
    for capability in CAPABILITIES:
        line += ["--cap-add", capability]
    line += ["--setenv", "LANG", "C.UTF-8", "--setenv", "LD_LIBRARY_PATH", native.INSIDE]
    line += ["--setenv", "KLUIS_PLATFORM_SETTINGS", walls.settings]
    line += ["--dir", "/dev", "--dev-bind", "/dev/null", "/dev/null"]
    # bubblewrap creates parent directories of a mount for root only; created explicitly they are accessible.
    for directory in sorted(
        {str(parent) for entry in (*paths, "/k/x") for parent in Path(entry).parents} - {"/"}
    ):
        line += ["--dir", directory]
    for directory in paths:
        line += ["--ro-bind", directory, directory]
    line += ["--ro-bind", str(guardian), "/k/guardian", "--ro-bind", str(base), native.PYTHON]
    line += ["--bind", str(walls.state), "/state", "--chdir", "/", "--remount-ro", "/", "--"]
    line += ["/k/guardian", str(walls.uid), str(walls.gid), str(walls.region_bytes), walls.without]
    line += [f"{native.PYTHON}/bin/kluis-launcher"]
    line += [native.PYTHON, str(PLATFORM_HEAP), "0", walls.without, "p", "kluis.tee.platform.entry"]
    return [*line, stdlib, f"{stdlib}/lib-dynload", *paths]
