"""Determine which party a room command acts as, and where that party's keys are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.homes import open_home
from kluis.cli.parameters import option

As = Annotated[str, option("Your short name in the room, such as clinic.", "PARTY", "--as")]
Homes = Annotated[
    Path | None,
    option("The folder of the parties' keys. [default: KLUIS_PARTIES, or the user's data]", "DIR", "--home"),
]


def home(homes: Path | None, party: str, *, make: bool = False) -> Home:
    """A party's own folder, as :func:`kluis.cleanroom.records.homes.open_home`."""
    return open_home(homes, party, make=make)
