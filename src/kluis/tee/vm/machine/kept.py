"""Machines that run: each is kept by a separate process, and found by name in a folder with mode 0700."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from kluis import parents
from kluis.errors import BY_NAME, UnavailableError, UsageError, foreign
from kluis.tee import places
from kluis.tee.vm.machine import holding, ports
from kluis.tee.vm.machine.line import MOST_PORTS
from kluis.tee.vm.machine.machine import PORT_NAME

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
MOST_PATH_BYTES: Final = 107
"""Of a socket's path, which Linux limits."""
ANSWER_SECONDS: Final = 120.0
END_SECONDS: Final = 10.0
"""How long the keeper of a machine that ended by itself may take to end."""
PAUSE_SECONDS: Final = 0.05
ANSWER_BYTES: Final = 2 << 20
"""More than the last output of a console, of which JSON may write each byte as six."""
PACKET_BYTES: Final = 32 << 10
"""Of an answer: Linux limits a packet to what a socket's buffer holds."""
KEEPER: Final = "kluis.tee.vm.machine.keeper"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a machine is started with.

    Attributes:
        name: 1..32 of a-z, 0-9 and -.
        guest: folder of a guest.
        boot: ``direct`` or ``uefi``; the latter has a vTPM.
        memory_mb, cpus, ports: as for ``Machine.start``.
        debug: whether its console is open to its owner.
        only: the image id of the only image that it runs, hex; empty: any.
        idle_seconds: it ends when no host has had one of its ports for this time; 0: it does not.
    """

    name: str
    guest: str
    boot: str = "direct"
    memory_mb: int = 1024
    cpus: int = 1
    ports: int = 12
    debug: bool = False
    only: str = ""
    idle_seconds: int = 0


def folder() -> Path:
    """The folder of this user's machines, as root this machine's; created, mode 0700.

    Raises:
        UnavailableError: it is another user's, or accessible to others.
    """
    return _private(places.mine().runtime / "machines")


def lasting() -> Path:
    """The folder of what machines keep between their starts; as :func:`folder`."""
    mine = places.mine()
    return _private(mine.state.with_name("kluis-machines" if mine == places.SYSTEM else "machines"))


def _private(path: Path) -> Path:
    parents.require(path, places.OWN_HOME)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    places.require_own(path, path.lstat(), os.geteuid())
    return path


def place(name: str) -> Path:
    """The folder of one machine.

    Raises:
        UsageError: it is not a name, or the paths of its sockets would be too long.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"machine name: want 1..32 of a-z, 0-9 and -, got {name[:40]!a}")
    where = folder() / name
    if (size := len(os.fsencode(where / PORT_NAME.format(MOST_PORTS)))) > MOST_PATH_BYTES:
        raise UsageError(
            f"machine {name}: path of its sockets: want at most {MOST_PATH_BYTES} bytes, got {size}: {where}",
            hint="use a shorter --name, or set KLUIS_HOME to a folder with a shorter path",
        )
    return where


def start(settings: Settings) -> dict[str, Any]:
    """Start a machine, and leave it running; return what :func:`show` returns.

    Raises:
        KluisError: it could not be started.
    """
    where = place(settings.name)
    if _answers(where):
        raise UnavailableError(
            f"machine {settings.name}: runs already",
            hint=f"kluis vm show {settings.name}; or start one with another --name",
            code="machine_runs",
        )
    line = [sys.executable, "-I", "-m", KEEPER]
    keeper = subprocess.Popen(
        line,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        env={
            name: os.environ[name]
            for name in ("PATH", "HOME", "XDG_DATA_HOME", "KLUIS_HOME")
            if name in os.environ
        },
    )
    with keeper.stdout, keeper.stdin:  # type: ignore[union-attr]
        keeper.stdin.write(msgspec.json.encode(settings))  # type: ignore[union-attr]
        keeper.stdin.close()  # type: ignore[union-attr]
        answer = keeper.stdout.read(ANSWER_BYTES)  # type: ignore[union-attr]
    if not answer:
        raise UnavailableError("machine: its keeper ended", code="machine_ended")
    return _check(json.loads(answer))


def names() -> list[str]:
    """The names of the machines that run, or ended by themselves since their start."""
    there = [path.parent for sign in ("socket", "ended") for path in folder().glob(f"*/{sign}")]
    return sorted({path.name for path in there if NAME.fullmatch(path.name)})


def list_machines() -> list[dict[str, Any]]:
    """What :func:`show` returns, for each; of one that ended, its name and the reason."""
    machines = []
    for name in names():
        try:
            machines.append(show(name))
        except UnavailableError as lack:
            if lack.code != "no_machine":
                machines.append({"name": name, "ended": lack.message})
    return machines


def show(name: str) -> dict[str, Any]:
    """Name, pid, boot, accelerator, memory, processors, ports, debug and missing protections of a machine.

    Raises:
        UnavailableError: none of this name runs; with the reason if it ended by itself.
    """
    return ask(name, {"op": "show"})


def console(name: str) -> str:
    """The last output of a debug machine's console, untrusted.

    Raises:
        UnavailableError: none of this name runs, or it is no debug machine.
    """
    return str(ask(name, {"op": "console"})["text"])


def stop(name: str) -> None:
    """End a machine, and wait until nothing of it is left. One that ended by itself is forgotten.

    Raises:
        UnavailableError: there is none of this name.
    """
    where = place(name)
    try:
        ask(name, {"op": "stop"})
    except UnavailableError as lack:
        if lack.code != "machine_ended":
            raise
        _forget(where)


def _forget(where: Path) -> None:
    """Remove what is left of a machine that ended by itself, unless it was started again."""
    until = time.monotonic() + END_SECONDS
    while time.monotonic() < until and not _answers(where):
        try:
            with holding.hold(where):
                holding.remove(where)
            return
        except BlockingIOError:  # its keeper ends, or another one starts
            time.sleep(PAUSE_SECONDS)


def connect(name: str) -> socket.socket:
    """A new stream to a machine: the host's end of a port that no other host has.

    Raises:
        UnavailableError: none of this name runs, or all its ports are taken.
    """
    count = int(show(name)["ports"])
    return ports.take(place(name), [PORT_NAME.format(number) for number in range(count)])


def ask(name: str, request: dict[str, Any]) -> dict[str, Any]:
    """Send a request to a machine's keeper and return its answer."""
    with _connect(name) as connection:
        connection.send(json.dumps(request).encode())
        answer = bytearray()
        while len(answer) < ANSWER_BYTES and (packet := connection.recv(PACKET_BYTES)):
            answer += packet
    try:
        return _check(json.loads(answer))
    except ValueError:  # nothing, or only a part
        raise UnavailableError(f"machine {name}: ended", code="machine_ended") from None


def _connect(name: str) -> socket.socket:
    where = place(name)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(ANSWER_SECONDS)
    try:
        connection.connect(str(where / "socket"))
    except OSError:
        connection.close()
        if (where / "ended").exists():
            reason = (where / "ended").read_text("utf-8", "replace")
            raise UnavailableError(
                f"machine {name}: {foreign(reason, 2000)}", hint=f"kluis vm stop {name}", code="machine_ended"
            ) from None
        raise UnavailableError(
            f"machine {name}: none of this name runs", hint="kluis vm list", code="no_machine"
        ) from None
    return connection


def _answers(where: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        return connection.connect_ex(str(where / "socket")) == 0


def debug_line(name: str, guest: str) -> str:
    """The command that starts a debug machine like one that runs, next to it."""
    return f"kluis vm start --guest {shlex.quote(guest)} --name {name}-debug --debug"


def _check(answer: dict[str, Any]) -> dict[str, Any]:
    if (error := answer.get("error")) is not None:
        kind = BY_NAME.get(error["kind"], UnavailableError)
        raise kind(error["message"], hint=error["hint"], code=error["code"])
    return answer
