"""The signing keys that a reader of a room trusts, and their source.

A room's folder contains every party's keys, each signed by itself. This proves nothing about their owner:
anyone who can write the folder can create such a file in any name. So the keys in an agreement are trusted,
and one's own. For other parties the folder's keys are used and marked as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from kluis.cleanroom.agreement.agreement import Agreement, check_signed
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.rooms import Room
from kluis.errors import AuthenticityError

Word = Literal["agreement", "own", "folder"]


class Keyring:
    """The keys of a room's parties, for one reader.

    Args:
        room: the folder, for parties that no other source names.
        agreements: whose keys are trusted: signed by the reader, by its own record, or by all.
        home: the reader's own, if it is a party.

    Raises:
        AuthenticityError: an agreement belongs to another room.
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
        """A party's signing keys, 32 bytes each: the folder's only if no other source names it.

        Raises:
            KluisError: the folder's file is not a party's.
        """
        known = (*self._agreed.get(party, ()), *self._own.get(party, ()))
        return known or self._room.keys(party)

    def word(self, party: str) -> Word:
        """The source of this party's keys."""
        return "agreement" if party in self._agreed else "own" if party in self._own else "folder"


def find_agreement(room: Room, agreement_hash: str, home: Home | None = None) -> Agreement:
    """Find the agreement with a hash that the reader has from elsewhere.

    Args:
        room: the folder; its proposal is used if it has this hash and every party signed it.
        agreement_hash: 64 hex digits, from one's own records.
        home: a home whose own record has it does not need the folder.

    Raises:
        AuthenticityError: the folder has another one.
        KluisError: it has no complete one.
    """
    for own in home.agreements(room.file.room) if home else ():
        if own.hash == agreement_hash:
            return own
    agreement = check_signed(room.signed_agreement())
    if agreement.hash != agreement_hash:
        raise AuthenticityError(
            f"room: want agreement {agreement_hash[:16]}.., got {agreement.hash[:16]}..", code="agreement"
        )
    return agreement
