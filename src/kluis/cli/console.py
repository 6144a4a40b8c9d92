"""``kluis console``: pages about this machine and its rooms, for its user's browser."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from kluis.cli import render
from kluis.cli.cloud import places
from kluis.cli.parameters import argument, flag
from kluis.cli.room import parties

PORT = 8417


def console(
    rooms: Annotated[list[Path] | None, argument("Folders of rooms to show.", "ROOM")] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="The port; 0 chooses a free one.")
    ] = PORT,
    no_open: Annotated[bool, flag("Do not open a browser.", "--no-open")] = False,
    homes: parties.Homes = None,
) -> None:
    """Show this machine, evidence and rooms in a browser, until stopped.

    It serves pages on 127.0.0.1 and prints their address, which contains a random name and a token. Anyone
    with the address can sign agreements as a party of this user. Stop it with Ctrl-C.

    For example: kluis console room/
    """
    from kluis.console import server  # these want the extra, and the help does not
    from kluis.console.access import Access
    from kluis.console.state import Console

    with server.listening(port) as listener:
        access = Access(listener.getsockname()[1])
        cloud = places.path_of(None)
        served = Console(access, rooms or (), homes, cloud, now=lambda: datetime.now(UTC))
        with contextlib.ExitStack() as stack:
            render.out({"url": access.url, "port": access.port}, access.url)
            if not no_open and not stack.enter_context(server.open_browser(access.url)):
                render.note("kluis: no browser was found here: open the address above, or add --no-open")
            server.serve(served, listener)
