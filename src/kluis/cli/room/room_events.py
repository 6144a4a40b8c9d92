"""``kluis room events``: show a room's log, the keys of its signers, and what it proves."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from kluis.cleanroom.agreement.agreement import Agreement
from kluis.cleanroom.agreement.documents import as_json
from kluis.cleanroom.records import events as log
from kluis.cleanroom.records.homes import open_home
from kluis.cleanroom.records.keyring import Keyring, Word, find_agreement
from kluis.cleanroom.records.rooms import Room
from kluis.cli import render
from kluis.cli.parameters import argument, option
from kluis.cli.room import parties
from kluis.errors import PolicyError, UsageError
from kluis.views.rooms import log_proves, strangers

_COLUMNS: Final = 80
_MOST_NAME: Final = 16
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_HEAD: Final = ("", "time (UTC)", "who", "what", "to what")


def events(
    room: Annotated[Path, argument("The room's folder. [default: this one]", "ROOM")] = Path(),
    party: Annotated[
        str | None,
        option("The party whose record to use: its key, and the agreements it signed.", "PARTY", "--as"),
    ] = None,
    agreement: Annotated[
        str | None, option("The agreement whose keys to use. [default: all that PARTY signed]", "HASH")
    ] = None,
    homes: parties.Homes = None,
) -> int:
    """Check the room's log, line by line, and print what it proves.

    If only the folder contains a party's key, for example before an agreement, its lines are marked note, and
    the command exits with 6. Anyone with write access to the folder could have written them.
    """
    opened = Room(room)
    home = None if party is None else open_home(homes, party)
    if home is not None:
        opened.require_same(home)
    signed: tuple[Agreement, ...]
    if agreement is not None:
        signed = (find_agreement(opened, agreement, home),)
    elif home is not None:
        signed = home.agreements(opened.file.room)
    else:
        raise UsageError(
            "events: want a party or an agreement whose keys to use, got neither",
            hint="--as PARTY, for its own record; --agreement HASH, where you are no party",
        )
    keyring = Keyring(opened, signed, home)
    entries = log.read(room / "events.jsonl", opened.file.room, keyring.keys)
    words = {each.actor: keyring.word(each.actor) for each in entries}
    says = log_proves(opened.file.room, len(entries), signed, words)
    value = {
        "room": opened.file.room,
        "agreements": [each.hash for each in signed],
        "events": [
            {"line": number, **as_json(each), "word": words[each.actor]}
            for number, each in enumerate(entries, 1)
        ],
        "unproven": strangers(words),
        "says": says,
    }
    render.out(value, render.fold(f"{table(entries, words)}\n{says}"))
    return PolicyError.exit_code if strangers(words) else 0


def table(entries: Sequence[log.Event], words: dict[str, Word]) -> str:
    """Events in 80 columns: a long name is wrapped, and a hash is shown by its first digits.

    Args:
        entries: at least one.
        words: by whose statement the key of each actor is known to be its own.
    """
    marks = ["note" if words[each.actor] == "folder" else "ok" for each in entries]
    named = min(_MOST_NAME, max(len(each.actor) for each in entries))
    widths = (max(map(len, marks)), 19, max(named, 3), max(len(each.kind) for each in entries))
    space = _COLUMNS - sum(each + 2 for each in widths)
    rows: list[tuple[str, ...]] = []
    for mark, each in zip(marks, entries, strict=True):
        time = each.time.replace(tzinfo=None).isoformat(" ", "seconds")
        subject = each.subject
        if _HASH.fullmatch(subject):
            subject = f"{subject[: min(16, space - 2)]}.."
        cells = ([mark], [time], _pieces(each.actor, named), [each.kind], _pieces(subject, space))
        rows += itertools.zip_longest(*cells, fillvalue="")
    return render.table(rows, _HEAD)


def _pieces(text: str, width: int) -> list[str]:
    return [text[start : start + width] for start in range(0, len(text), width)]
