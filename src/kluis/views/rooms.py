"""What a party of a room is shown: its trust on this machine, and what receipts and log prove."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from kluis import trust
from kluis.cleanroom.agreement.agreement import Agreement
from kluis.cleanroom.analyses import budget
from kluis.cleanroom.receipts.receipt import CheckedReceipt
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.keyring import Word
from kluis.cleanroom.records.trust import Trust
from kluis.errors import UnavailableError
from kluis.tee.platform.client import Platform

_MOST_NAMED: Final = 3


def trust_here(home: Home, roots: Iterable[bytes] = ()) -> Trust:
    """A party's trust: its record, the roots that it names, its trust store and this machine's platform.

    Raises:
        UnavailableError: other users may write the trust store.
    """
    here = [*roots, *(root.pem for root in trust.load(trust.folder()))]
    with contextlib.suppress(UnavailableError):  # no platform runs here: its root is unknown like any other
        here.append(Platform.connect(start=False).root_pem())
    return Trust(home, here)


def receipt_rows(checked: CheckedReceipt) -> list[tuple[str, str]]:
    """What a receipt proves: a name and a sentence for each check."""
    statement, verdict, agreed = checked.statement, checked.verdict, checked.agreement
    rows = [
        ("agreement", f"{statement.agreement[:32]}.., signed by all {len(agreed.parties)}"),
        ("code", f"measured {verdict.measured[:32]}.., the image that was agreed"),
        ("evidence", f"{len(verdict.rules)} rules met, as of {statement.time:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    for consent in checked.consents:
        what = ", ".join(key.dataset for key in consent.keys)
        rows.append(("consent", f"{consent.party} released {what} at {consent.time:%H:%M:%S}"))
    rows += [
        ("input", f"{used.dataset} version {used.version}, sha256 {used.parts[0][:16]}..")
        for used in statement.inputs
    ]
    rows += [
        ("result", f"{done.id}: groups of fewer than {done.k} persons are not shown")
        for done in statement.analyses
    ]
    figures = f"at most {budget.total_figures(agreed)} figures, limit {budget.most_figures(agreed)}"
    return [*rows, ("output", figures)]


def strangers(words: Mapping[str, Word]) -> list[str]:
    """The actors whose keys only the room's folder contains, sorted."""
    return sorted(actor for actor, word in words.items() if word == "folder")


def log_proves(room: str, count: int, signed: Sequence[Agreement], words: Mapping[str, Word]) -> str:
    """What a log proves to its reader and what it does not, on one line.

    Args:
        room: the room's random id.
        count: number of its lines, at least one.
        signed: the agreements whose keys were used.
        words: by whose statement the key of each actor is known to be its own.
    """
    others = strangers(words)
    named = ", ".join(others[:_MOST_NAMED]) + (", .." if len(others) > _MOST_NAMED else "")
    alone = (
        f"{named}: only the folder contains the key, so anyone with write access to it could have"
        " written the lines"
    )
    keys = [f"{actor}'s own record" for actor, word in words.items() if word == "own"]
    if "agreement" in words.values():
        keys.append(f"agreement {signed[0].hash[:16]}" if len(signed) == 1 else f"{len(signed)} agreements")
    if not keys:
        return f"proves nothing in room {room[:16]} of {alone}"
    lines = "the lines marked ok" if others else "this line" if count == 1 else f"these {count} lines"
    return (
        f"proves who signed {lines} of room {room[:16]}, by the keys of {' and '.join(keys)}, and the"
        " order in which they were added; does not prove that the log is complete, because anyone"
        " with write access to the folder can truncate it, or that a line or its time is true"
        + (f"; proves nothing of {alone}" if others else "")
    )
