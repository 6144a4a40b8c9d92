"""What a console's handlers share: its secrets, its pages, and the rooms it was started for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from kluis.cleanroom.records import homes
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.rooms import Room
from kluis.console.access import Access
from kluis.console.examining import Examination
from kluis.console.pages import Pages
from kluis.errors import KluisError, UsageError
from kluis.tee.platform.client import Platform


class Console:
    """One console.

    Args:
        access: its secrets and checks.
        rooms: folders of rooms to show. A request names a room by its id, never by a path.
        parties: the folder of the parties' keys; None for the user's default.
        cloud: the folder of the local cloud; None: there is none.
        now: returns the time, aware.

    Raises:
        UnavailableError: a folder is not a room.
        UsageError: two folders are of one room.
    """

    def __init__(
        self,
        access: Access,
        rooms: Sequence[Path] = (),
        parties: Path | None = None,
        cloud: Path | None = None,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self.access = access
        self.pages = Pages(access)
        self.now = now
        self.parties = parties
        self.cloud = cloud
        self.examination = Examination(now)
        self.streams = 0
        self.ending = False
        self._rooms: dict[str, Room] = {}
        for path in rooms:
            opened = Room(path)
            other = self._rooms.setdefault(opened.file.room, opened)
            if other is not opened:
                raise UsageError(f"{path}: want each room once, got it in {other.path}, too")

    @property
    def rooms(self) -> Mapping[str, Room]:
        """The rooms by their ids, 64 hex digits."""
        return self._rooms

    def room(self, name: str) -> Room:
        """A room by its id.

        Raises:
            UsageError: the console was not started for it.
        """
        known = self._rooms.get(name)
        if known is None:
            raise UsageError("room: the console was not started for it", hint="kluis console ROOM")
        return known

    def homes(self) -> tuple[Home, ...]:
        """The parties whose keys this user has; folders that cannot be used are left out."""
        opened = []
        for name in homes.names(self.parties):
            try:
                opened.append(homes.open_home(self.parties, name))
            except KluisError:
                continue
        return tuple(opened)


def platform() -> Platform | None:
    """This machine's platform, if one runs; it is never started here."""
    try:
        return Platform.connect(start=False)
    except KluisError:
        return None
