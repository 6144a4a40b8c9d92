"""A machine: QEMU within walls, started from files that cannot change.

It ends with the process that started it, at whatever step that process ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, Self

from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.formats.kluis.processor_port import PORT
from kluis.tee.process import linux, native
from kluis.tee.vm.machine import acceleration, line, programs, sealed, walled, walls
from kluis.tee.vm.machine.console import Console
from kluis.tee.vm.machine.ports import Listeners
from kluis.tee.vm.machine.tpm import Tpm
from kluis.tee.vm.machine.walled import Walled
from kluis.tee.vm.processor import measured
from kluis.tee.vm.words import MISSING, ONLY

BOOTS: Final = ("direct", "uefi")
LEAST_MEMORY_MB, MOST_MEMORY_MB = 128, 1 << 20
MOST_CPUS: Final = 64
PORT_NAME: Final = "kluis.{}"
GUEST_MEMORY: Final = "guest-memory"
"""The name, in a launch configuration, of a protection: the guest's memory is secret."""
BUILD_GUEST: Final = "kluis vm guest build"
MEBIBYTE: Final = 1 << 20


class Guest(Protocol):
    """What a machine boots; with ``uefi`` the unified image, else kernel, initrd and command line."""

    @property
    def kernel(self) -> Path:
        """A Linux kernel."""

    @property
    def initrd(self) -> Path:
        """Its initial RAM disk."""

    @property
    def command_line(self) -> str:
        """Its command line."""

    @property
    def root(self) -> Path | None:
        """The root disk; None if it has none."""

    @property
    def unified(self) -> Path | None:
        """The unified kernel image; None if it has none."""

    @property
    def digests(self) -> Mapping[str, bytes]:
        """SHA-256 of its files by the names of these attributes, 32 bytes each; any content if not there."""


class Machine:
    """A running machine.

    Attributes:
        pid: of QEMU.
        accelerator: ``tcg`` or ``kvm``.
        missing: names of the protections that it does not have.
        launch_digest: of what it boots directly, or of OVMF, 48 bytes; None if this OVMF has none.
        console: its serial line.
        processor: the host's end of port ``kluis.psp``; None if there is none.
    """

    def __init__(
        self,
        process: Walled,
        console: Console,
        ports: Listeners,
        processor: socket.socket | None,
        accelerator: str,
        missing: frozenset[str],
        tpm: Tpm | None = None,
        launch_digest: bytes | None = None,
    ) -> None:
        self.launch_digest = launch_digest
        self._process = process
        self._listeners = ports
        self._ports: dict[int, socket.socket] = {}
        self._tpm = tpm
        self.console = console
        self.processor = processor
        self.accelerator = accelerator
        self.missing = missing

    @classmethod
    def start(
        cls,
        guest: Guest,
        *,
        boot: str = "direct",
        memory_mb: int = 1024,
        cpus: int = 1,
        ports: int = 1,
        processor: bool = False,
        tpm: Tpm | None = None,
        accelerator: str | None = None,
        folder: Path | None = None,
        only: bytes | None = None,
    ) -> Self:
        """Start a machine.

        Args:
            guest: what it boots.
            boot: ``direct``: BIOS, kernel, initrd and command line; ``uefi``: OVMF and the unified image.
            memory_mb: 128..1048576 MiB.
            cpus: 1..64.
            ports: virtio-serial ports, 1..30, named ``kluis.0`` and so on.
            processor: whether it has the port ``kluis.psp``.
            tpm: its vTPM, which it owns from now on; None: without one.
            accelerator: ``tcg``, ``kvm``; None: KVM if it was seen to boot this guest's kernel, else TCG.
            folder: for the sockets of its ports, named as they are, with mode 0700; None: a private one.
            only: the image id of the only image that it runs, 32 bytes; None: any.

        Raises:
            UsageError: a number, or the boot, is out of range; or ``only`` with ``uefi``.
            UnavailableError: a program or file is missing, there is too little memory, or QEMU ended; or with
                ``uefi`` a protection is missing, which the guest could not state in its evidence.
        """
        _check(boot, memory_mb, cpus, ports)
        if boot == "uefi" and only is not None:
            raise UsageError(
                "machine: uefi: the guest cannot be restricted to one image, as its command line is sealed",
                hint="kluis vm start --boot direct --only ID",
            )
        tools = {name: programs.find(name) for name in (programs.QEMU, *programs.WALLS)}
        _check_memory(memory_mb)
        with contextlib.ExitStack() as stack:
            booted = _boot_files(guest, boot, stack)
            chosen = accelerator or acceleration.choose(tools[programs.QEMU], guest.kernel)
            library = _library()
            secret = chosen == "tcg" and library is not None and _lockable(memory_mb * MEBIBYTE)
            lacks = _missing(secret=secret, guarded=library is not None)
            if boot == "uefi" and lacks:
                raise UnavailableError(
                    f"machine: uefi: no {', '.join(sorted(lacks))}, and its guest could not state that",
                    hint="kluis doctor prints how to lock more memory; or kluis vm start --boot direct, whose"
                    " launch digest states it",
                )
            words = _command_line(guest.command_line, lacks, only) if boot == "direct" else ""
            digest = _measure(booted, words, cpus, boot)
            names = [PORT_NAME.format(number) for number in range(ports)]
            listeners = Listeners(names, folder)
            stack.callback(listeners.close)
            pairs = [socket.socketpair() for _ in range(2 if processor else 1)]
            for ours, theirs in pairs:
                stack.callback(theirs.close)
                stack.callback(ours.close)
            names += [PORT] if processor else []
            theirs_all = [pairs[0][1], *listeners.sockets, *(theirs for _, theirs in pairs[1:])]
            files = [name for name in ("kernel", "firmware", "initrd", "variables", "root") if name in booted]
            descriptors = [booted[name] for name in files]
            descriptors += [each.fileno() for each in theirs_all]
            descriptors += [tpm.control()] if tpm is not None else []

            def arguments(inside: Sequence[int]) -> list[str]:
                numbers = dict(zip(files, inside, strict=False))
                sockets = inside[len(files) :]
                return line.arguments(
                    line.Boot(command_line=words, **numbers),
                    line.Hardware(
                        memory_mb=memory_mb,
                        cpus=cpus,
                        accelerator=chosen,
                        secret=secret,
                        console=sockets[0],
                        ports=tuple(zip(names, sockets[1:], strict=False)),
                        tpm=sockets[-1] if tpm is not None else -1,
                    ),
                )

            around = walls.Walls(
                tools[programs.QEMU],
                library,
                walls.uid(),
                groups=acceleration.groups(chosen),
                devices=acceleration.devices(chosen),
            )
            process = walled.start("QEMU", around, arguments, descriptors, bwrap=tools["bwrap"])
            stack.pop_all()
        _close_all([*booted.values(), *theirs_all])
        return cls(
            process,
            Console(pairs[0][0]),
            listeners,
            pairs[1][0] if processor else None,
            chosen,
            lacks,
            tpm,
            digest,
        )

    @property
    def pid(self) -> int:
        """QEMU's pid on this machine."""
        return self._process.pid

    def port(self, number: int) -> socket.socket:
        """The host's end of virtio-serial port ``kluis.NUMBER``: one connection, the same at each call.

        Raises:
            UsageError: it has no such port.
        """
        if number not in self._ports:
            self._ports[number] = self._listeners.connect(number)
        return self._ports[number]

    def await_first(self, number: int, seconds: float) -> None:
        """Wait until the guest has sent something on a port; nothing is read.

        Raises:
            UnavailableError: the machine ended, or the guest was silent for ``seconds``.
        """
        with contextlib.suppress(OSError):
            ready = linux.readable(self.port(number).fileno(), seconds=seconds)
            if ready and self.port(number).recv(1, socket.MSG_PEEK):
                return
            if not ready and self.wait(0) is None:
                raise UnavailableError(
                    f"machine: silent for {seconds:g} s; its console: {self.console.last_words() or 'empty'}",
                    code="machine_silent",
                )
        self.wait(walled.END_SECONDS)
        raise self.end_error()

    def end_error(self) -> UnavailableError:
        """The error that states why it ended: a panic of its kernel, or QEMU's own error."""
        status = self.wait(0)
        self.console.join(walled.END_SECONDS if status is not None else 0)
        why = self._process.words or self.console.last_words()
        small = any(word in why.lower() for word in ("memory", "initrd is too large", "initramfs"))
        hint = "kluis vm start --memory MIB, with more" if small else None
        return UnavailableError(
            f"machine: ended with status {status}: {why or 'no output'}", hint=hint, code="machine_ended"
        )

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for its end; return QEMU's exit status, or None after ``seconds``."""
        status = self._process.wait(seconds)
        if status is not None and self._tpm is not None:
            self._tpm.stop()
        return status

    def stop(self) -> None:
        """End it now, and its vTPM."""
        self._process.kill()
        if self._tpm is not None:
            self._tpm.stop()
        self.console.join(walled.END_SECONDS)
        for port in (*self._ports.values(), *([self.processor] if self.processor else [])):
            port.close()
        self._listeners.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _check(boot: str, memory_mb: int, cpus: int, ports: int) -> None:
    if boot not in BOOTS:
        raise UsageError(f"boot: want {' or '.join(BOOTS)}, got {boot[:32]!a}")
    for what, got, least, most in (
        ("memory", memory_mb, LEAST_MEMORY_MB, MOST_MEMORY_MB),
        ("cpus", cpus, 1, MOST_CPUS),
        ("ports", ports, 1, line.MOST_PORTS),
    ):
        if not least <= got <= most:
            raise UsageError(f"{what}: want {least}..{most}, got {got}")


def _check_memory(memory_mb: int) -> None:
    available = acceleration.available_bytes() // MEBIBYTE
    if available < memory_mb:
        raise UnavailableError(
            f"machine: memory: want {memory_mb} MiB, {available} MiB are available",
            hint=f"kluis vm start --memory {max(available // 2, LEAST_MEMORY_MB)}",
            code="host_memory",
        )


def _boot_files(guest: Guest, boot: str, stack: contextlib.ExitStack) -> dict[str, int]:
    firmware = programs.firmware(boot)
    wanted = (
        {"kernel": guest.kernel, "initrd": guest.initrd} if boot == "direct" else {"kernel": guest.unified}
    )
    wanted |= {"root": guest.root} if guest.root is not None else {}
    made = {"firmware": sealed.of_file("firmware", firmware.code, "apt-get install ovmf seabios")}
    stack.callback(os.close, made["firmware"])
    for name, path in wanted.items():
        if path is None:
            raise UnavailableError(
                "machine: uefi: the guest has no unified image", hint=BUILD_GUEST, code="machine_file"
            )
        part = "unified" if path == guest.unified else name
        made[name] = sealed.of_file(part, path, BUILD_GUEST, want=guest.digests.get(part))
        stack.callback(os.close, made[name])
    if firmware.variables is not None:
        made["variables"] = sealed.of_file(
            "variables", firmware.variables, "apt-get install ovmf", writable=True
        )
        stack.callback(os.close, made["variables"])
    return made


def _command_line(line: str, lacks: frozenset[str], only: bytes | None) -> str:
    """What the guest is to know about its machine is on the command line, which is measured."""
    words = [line, *([MISSING + ",".join(sorted(lacks))] if lacks else [])]
    return " ".join([*words, *([ONLY + only.hex()] if only is not None else [])])


def _measure(booted: dict[str, int], command_line: str, cpus: int, boot: str) -> bytes | None:
    """The launch digest of sealed files, which are what boots; None of firmware that has none."""
    bios, kernel, initrd = (
        os.pread(booted[name], os.fstat(booted[name]).st_size, 0) if name in booted else b""
        for name in ("firmware", "kernel", "initrd")
    )
    if boot == "direct":
        return measured.measure(bios, kernel, initrd, command_line, cpus)
    try:
        return measured.measure_firmware(bios, cpus)
    except FormatError:
        return None


def _close_all(these: Sequence[int | socket.socket]) -> None:
    for each in these:
        if isinstance(each, socket.socket):
            each.close()
        else:
            os.close(each)


def _missing(*, secret: bool, guarded: bool) -> frozenset[str]:
    """The protections that a machine does not have; ``guardian``: debuggers are not kept away."""
    return frozenset(({GUEST_MEMORY} if not secret else set()) | ({"guardian"} if not guarded else set()))


def _library() -> Path | None:
    return native.machine()


def _lockable(size: int) -> bool:
    linux.raise_limits()
    limit = linux.lockable_bytes()
    return linux.has_memfd_secret() and (limit is None or limit >= size)
