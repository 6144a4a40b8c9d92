"""Which party a command of a room acts as, and where that party's keys are."""

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
    """A party's short name, as an option has it.

    Raises:
        UsageError: it is no short name.
    """
    if not _NAME.fullmatch(party):
        raise UsageError(f"{option}: want 1 to 63 of a-z 0-9 _ -, with a letter first, got {party[:80]!a}")
    return party


def home(homes: Path | None, party: str, *, make: bool = False) -> Home:
    """A party's own folder.

    Args:
        homes: where parties keep their keys; None where the user has it.
        party: its short name.
        make: whether to make one, with keys, where there is none.

    Raises:
        UsageError: it is no short name; it would lead to another folder.
        UnavailableError: there is none, others can enter it, or it has the keys of another party.
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
