"""The process that keeps one machine: starts it, answers its owner, and ends with it.

Settings arrive on stdin; the first answer leaves on stdout. Then it listens on a socket in the machine's
folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from kluis import files
from kluis.authority.amd import Processor
from kluis.errors import KluisError, UnavailableError
from kluis.tee import keyfiles
from kluis.tee.process import linux
from kluis.tee.tpm.tpm import Tpm
from kluis.tee.tpm.transport import Transport
from kluis.tee.vm import processor
from kluis.tee.vm.guest import Guest
from kluis.tee.vm.machine import acceleration, holding, kept, ports, programs, tpm
from kluis.tee.vm.machine.kept import Settings
from kluis.tee.vm.machine.machine import PORT_NAME, Machine
from kluis.tee.vm.processor import measured, paravisor

REQUEST_BYTES: Final = 4096
REQUEST_SECONDS: Final = 30.0
BACKLOG: Final = 16
WATCH_SECONDS: Final = 0.5
CHECK_SECONDS: Final = 5.0
"""How often a machine that ends when it is idle is checked for hosts."""
SETTLE_SECONDS: Final = 1.0
"""An error of QEMU in this time is the start's; a later one is found in the list."""


def main() -> int:
    """Start the machine of the settings on stdin, and keep it."""
    settings = msgspec.json.decode(sys.stdin.buffer.read(), type=Settings)
    try:
        with contextlib.ExitStack() as stack:
            where = kept.place(settings.name)
            stack.enter_context(_only_one(where, settings.name))
            machine = stack.enter_context(_start(settings))
            if machine.wait(SETTLE_SECONDS) is not None:
                raise machine.end_error()
            listener = stack.enter_context(_listening(where))
            _answer_start(_describe(settings, machine))
            stopping = _keep(settings, machine, listener, where)
    except KluisError as error:
        return _refuse(error)
    except OSError as error:  # such as a full disk; this process has no other place to state it
        named = f"{error.filename}: " if error.filename else ""
        return _refuse(UnavailableError(f"machine: {named}{error.strerror or error}", code="machine_file"))
    if stopping is not None:  # answered now, as nothing of the machine is left
        with stopping, contextlib.suppress(OSError):
            stopping.send(json.dumps({"name": settings.name}).encode())
    return 0


def _refuse(error: KluisError) -> int:
    _answer_start(_error(error))
    return error.exit_code


def _answer_start(answer: dict[str, Any]) -> None:
    """Write the one answer, and end the pipe; a second one goes nowhere."""
    with contextlib.suppress(OSError):  # the command was interrupted: the machine runs all the same
        sys.stdout.write(json.dumps(answer))
        sys.stdout.flush()
    none = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(none, sys.stdout.fileno())
    os.close(none)


@contextlib.contextmanager
def _only_one(where: Path, name: str) -> Iterator[None]:
    """Have the machine's folder; what is left of it afterwards is why the machine ended by itself."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(holding.hold(where))
        except BlockingIOError:
            raise UnavailableError(
                f"machine {name}: runs already",
                hint=f"kluis vm show {name}; or start one with another --name",
                code="machine_runs",
            ) from None
        for old in ("ended", "socket"):
            (where / old).unlink(missing_ok=True)
        try:
            yield
        finally:
            if not (where / "ended").exists():
                holding.remove(where)


def _start(settings: Settings) -> Machine:
    guest = Guest.open(Path(settings.guest), check=False)  # checked as it is sealed
    qemu = programs.find(programs.QEMU)
    # What a machine by uefi is worth hangs on its memory, which KVM cannot have secret.
    accelerator = (
        "tcg" if settings.boot == "uefi" else acceleration.choose_cached(kept.folder(), qemu, guest.kernel)
    )
    made = processor.load_or_create(kept.lasting() / "processor", datetime.now(UTC))
    only = bytes.fromhex(settings.only) if settings.only else None
    own, measurement = None, None
    if settings.boot == "uefi":
        state, firmware = state_of(settings), programs.firmware("uefi").code
        measurement = measured.measure_firmware(firmware.read_bytes(), settings.cpus)
        with tpm.power(state, _secret()) as vtpm, Tpm(Transport(vtpm.commands)) as before:
            paravisor.leave(
                before, made, measured.describe_launch(measurement, debug=settings.debug, only=only)
            )
        own = tpm.Tpm.start(state, _secret())
    try:
        machine = Machine.start(
            guest,
            boot=settings.boot,
            memory_mb=settings.memory_mb,
            cpus=settings.cpus,
            ports=settings.ports,
            processor=True,
            tpm=own,
            accelerator=accelerator,
            folder=kept.place(settings.name),
            only=only,
        )
        if measurement not in (None, machine.launch_digest):
            machine.stop()
            raise UnavailableError("machine: OVMF changed while it started", hint="start it again")
        _serve_processor(machine, made, settings)
        return machine
    except BaseException:
        if own is not None:
            own.stop()
        raise


def state_of(settings: Settings) -> Path:
    """The folder of a machine's vTPM.

    A debug machine has another one: a vTPM has the same key at each boot, so the report of a boot without
    debug would fit a quote of a boot with it.
    """
    return kept.lasting() / f"{settings.name}{'.debug' if settings.debug else ''}.tpm"


def _serve_processor(machine: Machine, made: Processor, settings: Settings) -> None:
    """Answer the guest as the emulated processor which measured its launch."""
    if machine.processor is None or machine.launch_digest is None:
        return
    launch = None
    if settings.boot == "direct":
        only = bytes.fromhex(settings.only) if settings.only else None
        launch = measured.describe_launch(machine.launch_digest, debug=settings.debug, only=only)
    arguments = (machine.processor, made, launch)
    threading.Thread(target=processor.answer, args=arguments, name="kluis-psp", daemon=True).start()


def _secret() -> bytes:
    """The secret of this user's vTPMs, 32 bytes, created once."""
    path = kept.lasting() / "secret"
    with processor.alone(path.parent):
        if not path.exists():
            files.write(path, os.urandom(tpm.KEY_BYTES))
    return keyfiles.read(path)


@contextlib.contextmanager
def _listening(where: Path) -> Iterator[socket.socket]:
    path = where / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(BACKLOG)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _keep(settings: Settings, machine: Machine, listener: socket.socket, where: Path) -> socket.socket | None:
    """Answer its owner until it ends; return the connection of an owner who stopped it."""
    names = [PORT_NAME.format(number) for number in range(settings.ports)]
    used = time.monotonic()
    while machine.wait(0) is None:
        if not linux.readable(listener.fileno(), seconds=WATCH_SECONDS):
            if not settings.idle_seconds:
                continue
            now = time.monotonic()
            late = now - used > min(CHECK_SECONDS, settings.idle_seconds)
            used = now if late and ports.in_use(where, names) else used
            if now - used > settings.idle_seconds:
                return None
            continue
        connection, _ = listener.accept()
        with contextlib.ExitStack() as closing, contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            closing.enter_context(connection)
            connection.settimeout(REQUEST_SECONDS)
            request = json.loads(connection.recv(REQUEST_BYTES))
            if request["op"] == "stop":
                closing.pop_all()
                return connection
            _answer(settings, machine, request, connection)
    (where / "ended").write_text(machine.end_error().message, "utf-8")
    return None


def _answer(settings: Settings, machine: Machine, request: dict[str, Any], to: socket.socket) -> None:
    try:
        if request["op"] == "console":
            if not settings.debug:
                raise UnavailableError(
                    f"machine {settings.name}: console: want a debug machine, got another",
                    hint=kept.debug_line(settings.name, settings.guest),
                    code="machine_not_debug",
                )
            answer: dict[str, Any] = {"text": machine.console.text()}
        else:
            answer = _describe(settings, machine)
    except KluisError as error:
        answer = _error(error)
    data = json.dumps(answer).encode()
    for start in range(0, len(data), kept.PACKET_BYTES):
        to.sendall(data[start : start + kept.PACKET_BYTES])


def _describe(settings: Settings, machine: Machine) -> dict[str, Any]:
    return {
        "name": settings.name,
        "pid": machine.pid,
        "guest": settings.guest,
        "boot": settings.boot,
        "accelerator": machine.accelerator,
        "memory_mb": settings.memory_mb,
        "cpus": settings.cpus,
        "ports": settings.ports,
        "debug": settings.debug,
        "missing": sorted(machine.missing),
        "measurement": machine.launch_digest.hex() if machine.launch_digest is not None else "",
    }


def _error(error: KluisError) -> dict[str, Any]:
    return {
        "error": {
            "kind": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "code": error.code,
        }
    }


if __name__ == "__main__":
    sys.exit(main())
