"""``kluis room``: fingerprint, show, approve; a party checks what it signs against its own record."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from kluis.cleanroom.agreement import fingerprint
from kluis.cleanroom.agreement.agreement import Party
from kluis.cleanroom.agreement.documents import as_json
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.homes import open_home
from kluis.cleanroom.records.rooms import Room
from kluis.cleanroom.records.trust import Trust, read_confirmations
from kluis.cleanroom.running import release
from kluis.cleanroom.signing import approval
from kluis.cleanroom.signing.explain import explain
from kluis.cli import render
from kluis.cli.parameters import flag, option
from kluis.cli.room import parties, room_files, room_image
from kluis.cli.room.room_files import now, record
from kluis.cli.room.room_text import about
from kluis.errors import KluisError, PolicyError, foreign, unknown

_Hash = Annotated[
    str | None, option("The hash of the agreement; any other is rejected.", "HASH", "--agreement")
]


def fingerprint_(party: parties.As, homes: parties.Homes = None) -> None:
    """Print the fingerprint of your keys, for others to confirm.

    It comes from your own record.
    """
    printed = fingerprint.of(open_home(homes, party).public(party, ("owner",)))
    render.out({"party": party, "fingerprint": printed}, printed)


def show(
    room: room_files.RoomArgument,
    party: parties.As,
    root: room_files.Roots = None,
    homes: parties.Homes = None,
) -> None:
    """Show the proposed agreement, and what you confirmed of it.

    It prints everything that is signed, and whether you confirmed its parties and roots.
    """
    opened, home = Room(room), open_home(homes, party)
    opened.require_same(home)
    agreement = opened.proposal()
    text = explain(agreement, room_files.trust(home, root))
    render.out({"agreement": agreement.hash, **as_json(agreement)}, text)


def approve(
    room: room_files.RoomArgument,
    party: parties.As,
    yes: Annotated[bool, flag("Sign without a prompt.", "--yes")] = False,
    stop: Annotated[
        bool, flag("Withdraw from what you signed: your keys are released to no further run.", "--stop")
    ] = False,
    agreement_hash: _Hash = None,
    image: Annotated[
        Path | None,
        option("The code as you built or inspected it; an agreement on other code is refused.", "FILE"),
    ] = None,
    confirm: room_files.Confirmations = None,
    root: room_files.Roots = None,
    homes: parties.Homes = None,
) -> None:
    """Sign the proposed agreement, or withdraw what you signed.

    Before it signs, it checks the agreement against your own record.

    The last agreement that you signed in a room replaces the earlier ones: your client releases no key under
    those. --stop with --agreement needs nothing of the room's folder.
    """
    home = open_home(homes, party)
    if stop:
        _stop(room, home, agreement_hash)
        return
    opened = Room(room)
    opened.require_joined(home)  # before anything of it is shown, or confirmed
    agreement = approval.read_proposal(opened, agreement_hash)
    if image is not None:
        room_image.require(image, agreement)
    trust = room_files.trust(home, root)
    confirm_given(trust, agreement.parties, confirm)  # before it is shown, which states who is confirmed
    render.note(explain(agreement, trust))
    confirm_parties(trust, agreement.parties)
    signature = approval.sign(opened, home, trust, agreement)
    if not yes:
        typer.confirm("sign it?", abort=True, err=True)
    missing = approval.publish(opened, home, trust, agreement, signature)
    text = f"{party} signed {agreement.hash}; " + (
        f"still to sign: {', '.join(missing)}" if missing else "all signed"
    )
    render.out({"agreement": agreement.hash, "signed": party, "missing": missing}, render.fold(text))
    record(opened, home, "agreement.signed", agreement.hash)


def confirm_given(trust: Trust, named: Iterable[Party], entries: Sequence[str] | None) -> None:
    """Confirm the parties of ``--confirm``.

    Args:
        trust: the party's own.
        named: the parties, as a document gives them.
        entries: the option's values.

    Raises:
        UsageError: a confirmed party is not in the document.
        AuthenticityError: a party's keys differ from the confirmed ones.
    """
    known = {party.id: party for party in named}
    for name, digits in read_confirmations(entries or ()).items():
        if name not in known:
            raise unknown("--confirm", name, sorted(known))
        trust.confirm(known[name], digits)


def confirm_parties(trust: Trust, named: Iterable[Party]) -> None:
    """Refuse parties that are not confirmed; at a terminal, prompt for their fingerprints first.

    Args:
        trust: the party's own.
        named: the parties, as a document gives them.

    Raises:
        AuthenticityError: a party's keys differ from the confirmed ones.
        PolicyError: a party is not confirmed.
    """
    parties = tuple(named)
    for party in parties:
        if trust.standing(party) == "not confirmed" and sys.stdin.isatty() and not render.wants_json():
            words = f"fingerprint of {party.id}, as {party.id} read it to you over another channel"
            trust.confirm(party, typer.prompt(words, err=True))
    trust.require_parties(parties)


def _stop(room: Path, home: Home, agreement_hash: str | None) -> None:
    """Withdraw what a party signed, in its own record; then record it in the folder, if that can be
    reached.

    The folder's holder decides when a read of it ends: a share can leave it without an answer. So it is read
    first only if nothing else names the room.
    """
    problems: list[str] = []
    if agreement_hash is not None:
        chosen = [each for each in home.all_agreements() if each.hash == agreement_hash]
    else:
        places = home.places_at(room)
        meant = places[0].room if places else _stated_id(room, problems)
        chosen = [each for each in home.all_agreements() if each.room == meant]
    if not chosen:
        mine = [f"{each.hash} ({foreign(each.title, 40)!a})" for each in home.all_agreements()]
        signed = ", ".join(mine) or "none"
        raise PolicyError(
            f"stop: {home.party} signed no such agreement, by its own record"
            + "".join(f"; {each}" for each in problems),
            hint=f"--agreement HASH, of those that it signed: {signed}",
            code="agreement_unsigned",
        )
    owned = [each for each in chosen if home.party in each.owners] or chosen
    stops = [(each, release.stop(home, each, now())) for each in owned]
    try:
        opened = Room(room)
        opened.require_same(home)
        for each, signed_stop in stops:
            opened.add_stop(home.party, each.hash, signed_stop)
        for each in owned:
            record(opened, home, "agreement.stopped", each.hash)
    except KluisError as error:  # anyone who can write the folder can remove it, or make it another's
        problems.append(error.message)
    for problem in problems:
        render.note(f"kluis: the room's folder does not show it, so tell the other parties: {problem}")
    # Its record may be of another folder than the one that it means: what is not stopped is listed, too.
    in_force = [
        each
        for each in home.all_agreements()
        if home.current(each.room) == each.hash and not home.has_withdrawn(each.hash)
    ]
    lines = []
    for what, agreements in ((f"{home.party} stopped", owned), ("still in force:", in_force)):
        for each in agreements:
            lines += [f"{what} {each.hash}", *about(title=each.title)]
    render.out(
        {
            "stopped": home.party,
            "agreements": [each.hash for each in owned],
            "in_force": [each.hash for each in in_force],
            "unshown": problems,
        },
        "\n".join(lines),
    )


def _stated_id(room: Path, problems: list[str]) -> str:
    """The id of the room that a folder states to be; "" with a problem if it cannot be read."""
    try:
        return Room(room).file.room
    except KluisError as error:
        problems.append(error.message)
        return ""


COMMANDS = (fingerprint_, show, approve)
