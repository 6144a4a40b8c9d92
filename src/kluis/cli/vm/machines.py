"""``kluis vm start|list|show|attest|root|console|stop``: machines that run on this host.

Each command imports what it needs: help, and the commands of guests, need none of it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from kluis.cli import render
from kluis.cli.render import Json
from kluis.cli.vm.attesting import attest
from kluis.errors import UsageError

IMAGE_ID: Final = re.compile("[0-9a-f]{64}")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The machine's name.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    for command in (start, show, attest, root, console, stop):
        app.command()(command)
    app.command("list")(list_)


def start(
    guest: Annotated[
        Path, typer.Option("--guest", metavar="DIR", help="A guest that kluis vm guest build wrote.")
    ],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Its name.")] = "machine",
    boot: Annotated[
        Literal["direct", "uefi"],
        typer.Option("--boot", help="direct: BIOS, for development; uefi: OVMF and a vTPM, as in a cloud."),
    ] = "direct",
    memory: Annotated[int, typer.Option("--memory", metavar="MIB", help="Memory, MiB.")] = 1024,
    cpus: Annotated[int, typer.Option("--cpus", metavar="N", help="Number of processors.")] = 1,
    ports: Annotated[
        int, typer.Option("--ports", metavar="N", help="Number of streams; an enclave takes three.")
    ] = 12,
    only: Annotated[
        str, typer.Option("--only", metavar="ID", help="The image id of the only image that it runs.")
    ] = "",
    debug: Annotated[bool, typer.Option("--debug", help="Open its console to its owner.")] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait until its platform answers.")
    ] = False,
    json: Json = False,
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


def list_(json: Json = False) -> None:
    """List the machines of this user, as root those of this host."""
    from kluis.tee.vm.machine import kept

    found = kept.list_machines()
    rows = [
        (each["name"], str(each.get("pid", "-")), each.get("boot", "-"), each.get("ended", "runs"))
        for each in found
    ]
    render.out(found, render.table(rows, ("name", "pid", "boot", "state")) if rows else "no machine runs")


def show(name: Name, json: Json = False) -> None:
    """Print how a machine runs, and which protections it does not have."""
    from kluis.tee.vm.machine import kept

    _show(kept.show(name))


def root(
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write it to a file instead of stdout."),
    ] = None,
    json: Json = False,
) -> None:
    """Print the root of this user's emulated processor.

    A relying party trusts it with kluis trust add, or by naming its file.

    The processor's keys are files of this user: its evidence does not keep this user out.
    """
    from kluis.tee.vm import processor
    from kluis.tee.vm.machine import kept

    pem = processor.load_or_create(kept.lasting() / "processor", datetime.now(UTC)).root_pem()
    if output is None:
        render.out({"root": pem.decode()}, pem.decode().rstrip("\n"))
        return
    render.save(output, pem)
    render.note(f"written: {output}")


def console(name: Name, json: Json = False) -> None:
    """Print the last output of a debug machine's console."""
    from kluis.tee.vm.machine import kept

    text = kept.console(name)
    render.out({"text": text}, text.rstrip("\n"))


def stop(name: Name, json: Json = False) -> None:
    """End a machine. Its memory is lost; the state of its vTPM remains."""
    from kluis.tee.vm.machine import kept

    kept.stop(name)
    render.out({"name": name, "running": False}, "stopped")


def _show(shown: dict[str, Any]) -> None:
    rows = [
        (name.removesuffix("_mb"), ", ".join(value) if isinstance(value, list) else str(value))
        for name, value in shown.items()
    ]
    render.out(shown, render.table([(name, value or "nothing") for name, value in rows]))
