"""``kluis vm start|list|show|attest|root|console|stop``: machines that run on this host.

Each command imports what it needs: help, and the commands of guests, need none of it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from kluis.cli import render
from kluis.cli.parameters import Output, argument, flag, option
from kluis.cli.vm.attesting import attest, cell
from kluis.errors import UsageError

IMAGE_ID: Final = re.compile("[0-9a-f]{64}")
Name = Annotated[str, argument("The machine's name.", "NAME")]


def start(
    guest: Annotated[Path, option("A guest that kluis vm guest build wrote.", "DIR")],
    name: Annotated[str, option("Its name.", "NAME")] = "machine",
    boot: Annotated[
        Literal["direct", "uefi"],
        option("direct: BIOS, for development; uefi: OVMF and a vTPM, as in a cloud."),
    ] = "direct",
    memory: Annotated[int, option("Memory, MiB.", "MIB")] = 1024,
    cpus: Annotated[int, option("Number of processors.", "N")] = 1,
    ports: Annotated[int, option("Number of streams; an enclave takes three.", "N")] = 12,
    only: Annotated[str, option("The image id of the only image that it runs.", "ID")] = "",
    debug: Annotated[bool, flag("Open its console to its owner.", "--debug")] = False,
    no_wait: Annotated[bool, flag("Do not wait until its platform answers.", "--no-wait")] = False,
) -> None:
    """Start a machine in QEMU, and leave it running until it is stopped.

    Without a KVM that boots the guest's kernel, QEMU emulates the processor, which is 10 to 60 times slower.
    With KLUIS_MACHINE=NAME in the environment, other commands run enclaves in the machine.
    """
    if only and not IMAGE_ID.fullmatch(only):
        raise UsageError(f"--only: want 64 hex digits, got {only[:80]!a}", hint="kluis measure prints them")
    from kluis.tee.vm.machine import kept, ondemand
    from kluis.tee.vm.machine.kept import Settings

    settings = Settings(
        name=name,
        guest=str(guest.absolute()),
        boot=boot,
        memory_mb=memory,
        cpus=cpus,
        ports=ports,
        debug=debug,
        only=only,
    )
    shown = kept.start(settings)
    if shown["accelerator"] == "tcg":
        render.note("no KVM that boots the guest's kernel: QEMU emulates the processor")
    if not no_wait:
        ondemand.await_platform(name)
    _show(shown)


def list_() -> None:
    """List the machines of this user, as root those of this host."""
    from kluis.tee.vm.machine import kept

    machines = kept.list_machines()
    rows = [
        (each["name"], str(each.get("pid", "-")), each.get("boot", "-"), each.get("ended", "runs"))
        for each in machines
    ]
    render.out(machines, render.table(rows, ("name", "pid", "boot", "state")) if rows else "no machine runs")


def show(name: Name) -> None:
    """Print how a machine runs, and which protections it does not have."""
    from kluis.tee.vm.machine import kept

    _show(kept.show(name))


def root(output: Output = None) -> None:
    """Print the root of this user's emulated processor.

    A relying party trusts it with kluis trust add, or by naming its file.

    The processor's keys are files of this user: its evidence does not keep this user out.
    """
    from kluis.tee.vm import processor
    from kluis.tee.vm.machine import kept

    pem = processor.load_or_create(kept.lasting() / "processor", datetime.now(UTC)).root_pem().decode()
    render.give({"root": pem}, pem, output)


def console(name: Name) -> None:
    """Print the last output of a debug machine's console."""
    from kluis.tee.vm.machine import kept

    text = kept.console(name)
    render.out({"text": text}, text.rstrip("\n"))


def stop(name: Name) -> None:
    """End a machine. Its memory is lost; the state of its vTPM remains."""
    from kluis.tee.vm.machine import kept

    kept.stop(name)
    render.out({"name": name, "running": False}, "stopped")


def _show(shown: dict[str, Any]) -> None:
    rows = [(name.removesuffix("_mb"), _cell(name, value)) for name, value in shown.items()]
    render.out(shown, render.fold(render.table(rows)))


def _cell(name: str, value: Any) -> str:
    if name == "ports":
        return f"{value} streams; an enclave takes three"
    return cell(value)


COMMANDS = (start, show, attest, root, console, stop, list_)
