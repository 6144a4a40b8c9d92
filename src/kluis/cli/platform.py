"""``kluis platform``: the local root of trust, started, stopped and asked for what relying parties need."""

from __future__ import annotations

import json as stdjson
from pathlib import Path
from typing import Annotated, Any

import typer

from kluis.cli import render
from kluis.cli.render import Json
from kluis.errors import UnavailableError
from kluis.tee.platform import start as starting
from kluis.tee.platform.client import Platform

Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write it to a file instead of stdout.")]


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    platform = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    for command in (start, stop, root, collateral, status):
        platform.command()(command)
    app.add_typer(platform, name="platform", help="The local root of trust.")


def start(json: Json = False) -> None:
    """Start the platform, and leave it running.

    As root it runs as the user kluis, for everyone on this machine; otherwise for one user.
    """
    starting.start()
    _show(Platform.connect(start=False).status())


def stop(json: Json = False) -> None:
    """Stop the platform, and every enclave that it runs."""
    try:
        platform = Platform.connect(start=False)
    except UnavailableError:
        render.out({"running": False}, "no platform runs")
        return
    platform.stop()
    render.out({"running": False}, "stopped")


def root(output: Output = None, json: Json = False) -> None:
    """Print the root certificate, which a relying party trusts by naming its file."""
    pem = Platform.connect().root_pem().decode()
    _give(pem, {"root": pem}, output)


def collateral(output: Output = None, json: Json = False) -> None:
    """Print fresh collateral: TCB info, QE identity and revocation lists, signed."""
    text = Platform.connect().collateral().decode()
    _give(text, stdjson.loads(text), output)


def status(json: Json = False) -> None:
    """Say what the platform is, what it lacks and what it runs."""
    _show(Platform.connect(start=False).status())


def _give(text: str, value: Any, output: Path | None) -> None:
    if output is None:
        render.out(value, text.rstrip("\n"))
        return
    output.write_text(text, encoding="utf-8")
    render.note(f"written: {output}")


def _show(state: dict[str, Any]) -> None:
    rows = [(name, _words(value)) for name, value in state.items()]
    render.out(state, render.table(rows))


def _words(value: object) -> str:
    match value:
        case []:
            return "none"
        case list():
            return ", ".join(str(one) for one in value)
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
