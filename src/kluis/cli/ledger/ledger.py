"""``kluis ledger``: a confidential ledger, from its files and, where it runs, from its node."""

from __future__ import annotations

import typer

from kluis.cli.ledger import explain, offline, online, proving, tailing

HELP = "Run a confidential ledger, govern it, and check its entries."


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    ledger = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    for command in (*online.COMMANDS, *offline.COMMANDS, proving.receipt, tailing.tail, explain.explain):
        ledger.command()(command)
    app.add_typer(ledger, name="ledger", help=HELP)
