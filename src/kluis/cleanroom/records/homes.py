"""Find parties' own folders on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from kluis.cleanroom.records.home import Home
from kluis.errors import UnavailableError, UsageError

NAME: Final = re.compile("[a-z][a-z0-9_-]{0,62}")


def check_name(option: str, party: str) -> str:
    """Check a party's short name, given as an option.

    Raises:
        UsageError: it is not a valid short name.
    """
    if not NAME.fullmatch(party):
        raise UsageError(f"{option}: want 1 to 63 of a-z 0-9 _ -, with a letter first, got {party[:80]!a}")
    return party


def folder(chosen: Path | None = None) -> Path:
    """The folder in which parties keep their keys: the given one, ``KLUIS_PARTIES``, or the user's data."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return chosen or Path(os.environ.get("KLUIS_PARTIES") or data / "kluis" / "parties")


def names(homes: Path | None = None) -> tuple[str, ...]:
    """The short names of the parties with keys in a folder, sorted.

    Args:
        homes: as for :func:`folder`.
    """
    paths = folder(homes).glob("*/keys.json")
    return tuple(sorted(path.parent.name for path in paths if NAME.fullmatch(path.parent.name)))


def open_home(homes: Path | None, party: str, *, make: bool = False) -> Home:
    """A party's own folder.

    Args:
        homes: as for :func:`folder`.
        party: its short name.
        make: whether to create one, with keys, if there is none.

    Raises:
        UsageError: it is not a valid short name; it would lead to another folder.
        UnavailableError: it does not exist, others can enter it, or it has the keys of another party.
    """
    check_name("--as", party)
    where = folder(homes) / party
    if make and not (where / "keys.json").exists():
        return Home.create(where, party)
    home = Home(where)
    if home.party != party:
        raise UnavailableError(f"{where}: want the keys of {party}, got those of {home.party}")
    return home
