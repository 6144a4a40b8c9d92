"""Which party a command of a room acts as, and where that party's keys are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from kluis.cleanroom.home import Home

As = Annotated[str, typer.Option("--as", metavar="PARTY", help="Who you are here: a short name, as clinic.")]
Homes = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="Where parties keep their keys. [default: KLUIS_PARTIES, or the user's data]",
    ),
]


def home(homes: Path | None, party: str, *, make: bool = False) -> Home:
    """A party's own folder.

    Args:
        homes: where parties keep their keys; None where the user has it.
        party: its short name.
        make: whether to make one, with keys, where there is none.

    Raises:
        UnavailableError: there is none, or others can read it.
    """
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    folder = (homes or Path(os.environ.get("KLUIS_PARTIES") or data / "kluis" / "parties")) / party
    if make and not (folder / "keys.json").exists():
        return Home.create(folder, party)
    return Home(folder)
