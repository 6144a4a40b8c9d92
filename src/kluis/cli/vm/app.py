"""``kluis vm``: confidential virtual machines, and their guest."""

from __future__ import annotations

import typer

from kluis.cli.vm import guest, machines


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    vm = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    guest.register(vm)
    machines.register(vm)
    app.add_typer(vm, name="vm", help="Run confidential virtual machines, and build their guest.")
