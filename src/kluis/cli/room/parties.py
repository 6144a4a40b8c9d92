"""Determine which party a room command acts as, and where that party's keys are."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Final

import typer

from kluis.cleanroom.home import Home
from kluis.errors import UnavailableError, UsageError

_NAME: Final = re.compile("[a-z][a-z0-9_-]{0,62}")

As = Annotated[
    str, typer.Option("--as", metavar="PARTY", help=("Your short name in the room, such as clinic."))
]
Homes = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="The folder of the parties' keys. [default: KLUIS_PARTIES, or the user's data]",
    ),
]


def check_name(option: str, party: str) -> str:
    """Check a party's short name, given as an option.

    Raises:
        UsageError: it is not a valid short name.
    """
    if not _NAME.fullmatch(party):
        raise UsageError(f"{option}: want 1 to 63 of a-z 0-9 _ -, with a letter first, got {party[:80]!a}")
    return party


def home(homes: Path | None, party: str, *, make: bool = False) -> Home:
    """A party's own folder.

    Args:
        homes: where parties keep their keys; None for the user's default.
        party: its short name.
        make: whether to create one, with keys, if there is none.

    Raises:
        UsageError: it is not a valid short name; it would lead to another folder.
        UnavailableError: it does not exist, others can enter it, or it has the keys of another party.
    """
    check_name("--as", party)
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    folder = (homes or Path(os.environ.get("KLUIS_PARTIES") or data / "kluis" / "parties")) / party
    if make and not (folder / "keys.json").exists():
        return Home.create(folder, party)
    found = Home(folder)
    if found.party != party:
        raise UnavailableError(f"{folder}: want the keys of {party}, got those of {found.party}")
    return found
