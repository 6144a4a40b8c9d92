"""Whose signing keys a reader of a room believes, and on whose word.

A room's folder holds every party's keys, each under its own signature, which proves nothing of whose they
are: whoever holds the folder can make such a file in any name. So an agreement's keys are believed, one's
own, and for whom neither knows, the folder's are used and said to be that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from kluis.cleanroom.agreement import Agreement, check_signed
from kluis.cleanroom.home import Home
from kluis.cleanroom.rooms import Room
from kluis.errors import AuthenticityError

Word = Literal["agreement", "own", "folder"]


class Keyring:
    """The keys of a room's parties, as one reader knows them.

    Args:
        room: the folder, for the parties that nothing else names.
        agreements: whose keys are believed: signed by the reader, by its own record, or by all.
        home: the reader's own, if it is a party.

    Raises:
        AuthenticityError: an agreement is of another room.
    """

    def __init__(self, room: Room, agreements: Sequence[Agreement], home: Home | None = None) -> None:
        for each in agreements:
            if each.room != room.file.room:
                raise AuthenticityError(
                    f"room: want {each.room[:16]}.., as agreement {each.hash[:16]} names it, "
                    f"got {room.file.room[:16]}..",
                    code="agreement",
                )
        self._room = room
        self._agreed: dict[str, tuple[bytes, ...]] = {}
        for party in (party for each in agreements for party in each.parties):
            self._agreed[party.id] = (*self._agreed.get(party.id, ()), party.signing_key)
        self._own = {home.party: (home.signing.public,)} if home else {}

    def keys(self, party: str) -> tuple[bytes, ...]:
        """A party's signing keys, 32 bytes each: the folder's only where nothing else names it.

        Raises:
            KluisError: the folder's file about it is none of a party.
        """
        known = (*self._agreed.get(party, ()), *self._own.get(party, ()))
        return known or self._room.keys(party)

    def word(self, party: str) -> Word:
        """On whose word its keys are this party's."""
        return "agreement" if party in self._agreed else "own" if party in self._own else "folder"


def agreed(room: Room, agreement_hash: str, home: Home | None = None) -> Agreement:
    """Find the agreement of a hash that the reader has from elsewhere.

    Args:
        room: the folder; what it proposes is taken if it has this hash and every party signed it.
        agreement_hash: 64 hex digits, from one's own records.
        home: one that has it by its own record needs no folder for it.

    Raises:
        AuthenticityError: the folder has another.
        KluisError: it has none that is whole.
    """
    for own in home.agreements(room.file.room) if home else ():
        if own.hash == agreement_hash:
            return own
    found = check_signed(room.signed())
    if found.hash != agreement_hash:
        raise AuthenticityError(
            f"room: want agreement {agreement_hash[:16]}.., got {found.hash[:16]}..", code="agreement"
        )
    return found
