"""Conduct a run from the host: carry ciphertext and signed documents between owners and the enclave.

The host is not trusted. An owner takes part from its own machine, through files in the room's folder
(``mailbox``), or directly if its client runs here.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from kluis.cleanroom.agreement.agreement import check_signed
from kluis.cleanroom.agreement.documents import decode, encode
from kluis.cleanroom.agreement.exchange import Challenge, Offer, Release
from kluis.cleanroom.receipts.receipt import Receipt, ReceiptFile
from kluis.cleanroom.records.rooms import Room
from kluis.cleanroom.running.release import Owner, check_stops
from kluis.errors import PolicyError
from kluis.frozen import frozen


class Enclave(Protocol):
    """A room's enclave, seen from its host: ``runner``'s ecalls."""

    def begin(self, agreement: bytes) -> str:
        """Start the run; return its id."""

    def offer(self, challenge: bytes) -> bytes:
        """Answer one owner's challenge."""

    def accept(self, release: bytes) -> None:
        """Take one owner's keys."""

    def add_file(self, dataset: str, data: bytes) -> None:
        """Take the next sealed file of a data set."""

    def run(self) -> tuple[dict[str, bytes], bytes]:
        """Run the analyses; return sealed results and the receipt."""


class Participant(Protocol):
    """An owner in a run: sends a challenge, gets an offer, and releases keys or raises."""

    def challenge(self) -> Challenge:
        """The owner's challenge."""

    def release(self, offer: Offer, collateral: bytes) -> Release:
        """The owner's keys, if the offer meets its agreement."""


class LocalOwner:
    """An owner whose client runs in this process.

    Args:
        owner: the client.
        clock: this machine's time, aware.
    """

    def __init__(self, owner: Owner, clock: Callable[[], datetime.datetime]) -> None:
        self._owner, self._clock = owner, clock

    def challenge(self) -> Challenge:
        """Request evidence."""
        return self._owner.challenge()

    def release(self, offer: Offer, collateral: bytes) -> Release:
        """Verify it, and release."""
        return self._owner.release(offer, collateral, self._clock())


@frozen
class Ended:
    """A run that ended: its id, where its results are, and the receipt."""

    run: str
    folder: Path
    receipt: ReceiptFile


def conduct(
    enclave: Enclave,
    room: Room,
    participants: Mapping[str, Participant],
    collateral: bytes,
    begun: Callable[[str], None] = lambda run: None,
) -> Ended:
    """Conduct one run.

    Args:
        enclave: started, and not yet called.
        room: the folder; the results go there.
        participants: every owner, by name.
        collateral: the platform's, JSON.
        begun: called with the run's id, before the first owner is contacted.

    Raises:
        PolicyError: an owner does not take part, or stopped the agreement.
        KluisError: from the enclave or an owner's client; nothing is left in the room.
    """
    signed = room.signed_agreement()
    agreement = check_signed(signed)
    check_stops(room.stops(agreement), agreement)
    absent = [owner for owner in agreement.owners if owner not in participants]
    if absent:
        raise PolicyError(
            f"run: want every owner to take part, missing {absent}",
            hint=f"each of them runs: kluis room run {room.path} --as PARTY",
            code="run_unreleased",
        )
    run = enclave.begin(encode(signed))
    begun(run)
    for owner in agreement.owners:
        challenge = participants[owner].challenge()
        offer = decode(enclave.offer(encode(challenge)), Offer, "offer")
        enclave.accept(encode(participants[owner].release(offer, collateral)))
    check_stops(room.stops(agreement), agreement)  # one may have come while another owner was waited for
    for dataset in agreement.datasets:
        for data in room.files(dataset):
            enclave.add_file(dataset.id, data)
    results, receipt = enclave.run()
    file = ReceiptFile(
        kind="kluis-receipt-file/1",
        receipt=decode(receipt, Receipt, "receipt"),
        agreement=signed,
        collateral=collateral,
    )
    return Ended(run, room.add_run(run, results, file), file)
