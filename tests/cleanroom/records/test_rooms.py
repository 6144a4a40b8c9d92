"""A room's folder, which others write too: what they put there keeps nobody waiting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kluis.cleanroom.agreement.documents import MAX_BYTES
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.rooms import Room
from kluis.errors import FormatError, UnavailableError


@pytest.fixture
def room(tmp_path: Path) -> Room:
    made = Room.create(tmp_path / "room", "Sample", "Tests")
    home = Home.create(tmp_path / "clinic", "clinic")
    made.join(home, home.public("The clinic", ("owner",)))
    return made


def test_a_fifo_for_a_document(room: Room) -> None:
    """A FIFO in a document's place is refused, without blocking."""
    os.mkfifo(room.path / "parties" / "eve.json")
    with pytest.raises(UnavailableError) as caught:
        room.party("eve")
    assert caught.value.message == f"party eve: has not joined {room.path}"


def test_a_document_of_any_size(room: Room) -> None:
    """A document longer than any may be is refused before it is read whole."""
    path = room.path / "agreement.json"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(FormatError) as caught:
        room.proposal()
    assert caught.value.message == f"{path}: want at most {MAX_BYTES} bytes, got more"
