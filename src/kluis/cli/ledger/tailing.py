"""``kluis ledger tail``: the last entries of a ledger's folder, and new ones as they are committed."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kluis.cli import render
from kluis.cli.render import Json
from kluis.errors import UsageError

if TYPE_CHECKING:
    from kluis.serve.ledger.following import Row

_PAUSE: Final = 0.2
_MOST: Final = 10_000
_SHOWN: Final = 200


def tail(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The ledger's folder.", show_default=False)],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new entries as they come; Ctrl-C ends it.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="N", help="How many entries to begin with.")
    ] = 10,
    json: Json = False,
) -> None:
    """Print a ledger's last entries: id, size in bytes, public tables.

    An entry is printed once a signature follows it in the files. Nothing is verified.
    """
    from kluis.serve.ledger.following import Follower

    if not 0 <= lines <= _MOST:
        raise UsageError(f"--lines: want 0 to {_MOST}, got {lines}")
    try:
        follower = Follower(folder, lines)
        for row in deque(follower.rows(), maxlen=lines):
            _print(row)
        while follow:
            for row in follower.rows():
                _print(row)
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        return


def _print(row: Row) -> None:
    names = ", ".join(name.removeprefix("public:") for name in row.tables) or "-"
    if len(names) > _SHOWN:
        names = f"{names[:_SHOWN]}.. ({len(row.tables)} tables)"
    value = {"entry": str(row.txid), "bytes": row.size, "tables": names}
    render.out_row(value, f"{row.txid!s:<12}  {row.size:>9}  {names.replace(chr(10), ' ')}")
