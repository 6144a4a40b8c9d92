"""The process that a start of the platform leaves: it starts the platform, then carries out its orders.

What the platform waits for comes first: this module imports only what starts it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from kluis import imports
from kluis.tee import places
from kluis.tee.process import linux, native, sandbox


def main(arguments: list[str]) -> int:
    """Entry of the spawner process: settings as JSON, including the listening descriptor."""
    settings = json.loads(arguments[0])
    layers = Path(settings["layers"])
    linux.mount_tmpfs(str(layers), 0o755)
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    walls = sandbox.PlatformWalls(
        state=Path(settings["state"]),
        uid=settings["uid"],
        gid=settings["gid"],
        without=settings["without"],
        region_bytes=settings["region"],
        settings=json.dumps(settings["daemon"]),
    )
    line = sandbox.platform_command(
        walls,
        bwrap=settings["bwrap"],
        guardian=native.guardian(),
        base=_lay_base(layers, settings["base"]),
    )
    listen, orders = linux.move_high(settings["listen"]), linux.move_high(theirs.fileno())
    null, tpm = os.open("/dev/null", os.O_RDWR), list[int]()
    if settings["tpm"] is not None:
        tpm = [linux.move_high(os.open(settings["tpm"], os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))]
    targets = ((listen, 3), (orders, 4), (null, 0), (2, 1), *((fd, 5) for fd in tpm))
    actions: list[Any] = [(os.POSIX_SPAWN_DUP2, fd, at) for fd, at in targets]
    with linux.more_files():
        pid = os.posix_spawn(line[0], line, {}, file_actions=actions)
    for fd in (listen, orders, null, settings["listen"], *tpm):
        os.close(fd)
    theirs.close()
    try:
        # On an emulated processor this import takes long. Meanwhile the platform imports its own modules.
        with imports.quick():
            from kluis.tee.platform.launching.spawner import Spawner

        Spawner(mine, layers, own_uids=settings["own_uids"]).serve()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        places.unlink_own(Path(settings["socket"]), settings["socket_mark"], settings["start_lock"])
    return 0


def _lay_base(layers: Path, unpacked: str | None) -> Path:
    """Unpack the runtime's base layer, checking each file: the platform runs on it, and so do enclaves.

    If it is unpacked already, it is mounted. The kernel of a guest checks each block of it as it is read.
    """
    place = layers / native.runtime().digest
    if unpacked is None:
        from kluis.tee.image.build import interpreter  # a guest has it unpacked, and does without

        interpreter.write(place, interpreter.base())
    else:
        place.mkdir()
        linux.bind(unpacked, str(place))
    return place


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
