"""Check a room's receipts against the reader's own record: the folder's agreement is not trusted."""

from __future__ import annotations

from kluis.cleanroom.agreement.agreement import check_signed
from kluis.cleanroom.receipts.receipt import CheckedReceipt, ReceiptFile
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.rooms import Room
from kluis.cleanroom.records.trust import Trust
from kluis.errors import AuthenticityError, PolicyError


def own_record(home: Home, file: ReceiptFile) -> str:
    """The hash of a receipt's agreement, if the reader signed it by its own record.

    Raises:
        PolicyError: it did not, or did not confirm a party.
        AuthenticityError: a party has other keys than the confirmed ones.
    """
    agreement = check_signed(file.agreement)
    name = agreement.hash
    if not home.has_signed(name):
        raise PolicyError(
            f"agreement {name[:16]}: {home.party} did not sign it, by its own record",
            code="agreement_unsigned",
        )
    Trust(home).require_parties(agreement.parties)
    return name


def check_place(checked: CheckedReceipt, room: Room, run: str) -> None:
    """Refuse a misplaced receipt: one of another room, or under another run's name.

    Raises:
        AuthenticityError: it is misplaced.
    """
    for what, want, got in (
        ("room", room.file.room, checked.agreement.room),
        ("run", run, checked.statement.run),
    ):
        if got != want:
            raise AuthenticityError(f"receipt: want {what} {want[:16]}.., got {got[:16]}..", code="receipt")
