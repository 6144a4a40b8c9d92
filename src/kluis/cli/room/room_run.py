"""``kluis room``: run, open, receipt."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, cast

from kluis import files
from kluis.cleanroom.agreement.agreement import check_signed
from kluis.cleanroom.agreement.documents import as_json, decode
from kluis.cleanroom.receipts import results
from kluis.cleanroom.receipts.receipt import ReceiptFile, check_receipt, check_result
from kluis.cleanroom.records.homes import open_home
from kluis.cleanroom.records.reading import check_place, own_record
from kluis.cleanroom.records.rooms import Room
from kluis.cleanroom.running import conduct, mailbox
from kluis.cleanroom.running.release import Owner
from kluis.cli import completion, render
from kluis.cli.evidence import image_ids
from kluis.cli.image import protections
from kluis.cli.parameters import argument, option
from kluis.cli.room import parties, room_files
from kluis.cli.room.room_files import now, record
from kluis.cli.room.room_text import format_result, summary_of
from kluis.errors import PolicyError, UnavailableError, UsageError
from kluis.host import load
from kluis.tee.platform.client import Platform

_Run = Annotated[str | None, option("Which run. [default: the newest]", "RUN", "--run")]


def run(
    room: room_files.RoomArgument,
    party: Annotated[
        list[str] | None, option("The party whose client runs here; may be repeated.", "PARTY", "--as")
    ] = None,
    image: Annotated[Path | None, option("Host the run: start this image here.", "FILE")] = None,
    wait: Annotated[float, option("How long to wait for the others.", "SECONDS")] = 60.0,
    insecure_allow_missing: Annotated[
        list[str] | None,
        option(
            "Start although these protections are missing on this machine.",
            "NAMES",
            complete=completion.protections,
        ),
    ] = None,
    homes: parties.Homes = None,
) -> None:
    """Host a run (with --image), or take part in a run.

    Without --image, another machine hosts the run.
    """
    opened = Room(room)
    signed = opened.signed_agreement()
    agreement = check_signed(signed)
    opened.require_own(agreement)
    local = {}
    for name in party or ():
        home = open_home(homes, name)
        opened.require_same(home)
        local[name] = Owner(home, signed, opened.stops(agreement))
    if image is None:
        if len(local) != 1:
            raise UsageError("run: want --image FILE to host it, or one --as PARTY to take part in it")
        name, owner = next(iter(local.items()))
        taken = mailbox.take_part(opened, name, owner, wait, now)
        render.out(
            {"run": taken, "released": name},
            f"{name} verified the enclave and released its keys to run {taken}",
        )
        record(opened, open_home(homes, name), "key.released", taken)
        return
    remote_owners = {
        each: mailbox.RemoteOwner(opened, each, wait) for each in agreement.owners if each not in local
    }
    (measured,) = image_ids.measure([image])
    if measured.hex() != agreement.code.image_id:
        raise PolicyError(
            f"{image}: want image {agreement.code.image_id[:16]}.., which was agreed, "
            f"got {measured.hex()[:16]}..",
            hint="--image: the file that was proposed",
            code="image",
        )
    local_owners = {
        name: conduct.LocalOwner(owner, now) for name, owner in local.items() if name in agreement.owners
    }
    platform = Platform.connect()
    collateral = platform.collateral()
    with contextlib.ExitStack() as after:

        def announce(run_id: str) -> None:
            if remote_owners:
                after.callback(mailbox.withdraw, opened, run_id)
                mailbox.announce(opened, agreement.hash, run_id, collateral)
            for each in remote_owners.values():
                each.begin(run_id)

        enclave = after.enter_context(
            load(image, insecure_allow_missing=protections.parse_protections(insecure_allow_missing))
        )
        ended = conduct.conduct(
            cast("conduct.Enclave", enclave), opened, {**local_owners, **remote_owners}, collateral, announce
        )
    checked = check_receipt(ended.receipt, agreement.hash)
    done = checked.statement.analyses
    lines = [("analysis", "least group"), *((each.id, str(each.k)) for each in done)]
    render.out(
        {"run": ended.run, "folder": str(ended.folder), "analyses": [as_json(each) for each in done]},
        f"run {ended.run}\n{render.table(lines)}",
    )
    for name in local_owners:
        record(opened, open_home(homes, name), "key.released", ended.run)
    for name in list(local)[:1]:  # one line of one party's: they are all here
        record(opened, open_home(homes, name), "run.finished", ended.run)


def open_(
    room: room_files.RoomArgument,
    party: parties.As,
    analysis: Annotated[str | None, option("Which. [default: every one that is yours]", "ID")] = None,
    run_id: _Run = None,
    out: Annotated[Path | None, option("Write the results there.", "DIR", "-o", "--output")] = None,
    homes: parties.Homes = None,
) -> None:
    """Check a run's receipt, and open the results sealed to you."""
    opened, home = Room(room), open_home(homes, party)
    opened.require_same(home)
    chosen = _choose_run(opened, run_id)
    file = opened.receipt(chosen)
    checked = check_receipt(file, own_record(home, file))
    check_place(checked, opened, chosen)
    mine = [
        each.id
        for each in checked.agreement.analyses
        if party in each.recipients and analysis in (None, each.id)
    ]
    if not mine:
        raise PolicyError(f"run {chosen[:16]}: no result of it is sealed to {party}", code="recipient")
    # The folder determines which run is the newest, so the opened run and its agreement are stated.
    agreed = checked.agreement
    first = (
        f"run {chosen[:16]} of {checked.statement.time:%Y-%m-%d %H:%M:%S} UTC, agreement {agreed.hash[:16]}"
    )
    if home.current(agreed.room) != agreed.hash:
        first += f" of {agreed.created:%Y-%m-%d}, which {party} replaced"
    values, texts = {}, [first]
    for name in mine:
        sealed = opened.sealed_result(chosen, name)
        check_result(checked, sealed, name)
        header, plain = results.open_result(sealed, party, home.sealing)
        values[name], text = format_result(header.format, plain)
        texts.append(f"{name}\n{text}")
        if out is not None:
            _write(out / f"{name}.{header.format}", plain)
    render.out(values, "\n".join(texts))
    for name in mine:
        record(opened, home, "result.opened", f"{name}.{chosen[:16]}")


def receipt(
    room: Annotated[Path, argument("The room's folder, or a receipt file.", "ROOM")],
    party: Annotated[
        str | None,
        option("The party whose record to use; it must have signed the agreement.", "PARTY", "--as"),
    ] = None,
    agreement: Annotated[
        str | None, option("The agreement that it must belong to, if you are not a party.", "HASH")
    ] = None,
    run_id: _Run = None,
    homes: parties.Homes = None,
) -> None:
    """Check a receipt offline, and print what it proves.

    The receipt is judged as of the time in it.

    The agreement in the folder is not trusted, because anyone who can write there could have replaced it.
    """
    opened, chosen = None, ""
    home = open_home(homes, party) if party is not None else None
    if room.is_file():
        file = decode(files.read_named(room, room_files.MAX_TEXT), ReceiptFile, str(room))
    else:
        opened = Room(room)
        if home is not None:
            opened.require_same(home)
        chosen = _choose_run(opened, run_id)
        file = opened.receipt(chosen)
    if agreement is None:
        if home is None:
            raise UsageError(
                "receipt: want to know which agreement it must be of, got no party and no agreement",
                hint="--as PARTY, for its own record; --agreement HASH, where you are not a party",
            )
        agreement = own_record(home, file)
    checked = check_receipt(file, agreement)
    if opened is not None:
        check_place(checked, opened, chosen)
    render.out(
        {
            "statement": as_json(checked.statement),
            "measured": checked.verdict.measured,
            "level": checked.verdict.level,
            "verdict": checked.verdict.result.verdict.value,
            "rules": list(checked.verdict.rules),
            "not_kept_out": list(checked.verdict.result.not_kept_out),
        },
        render.fold(summary_of(checked)),
    )


def _write(path: Path, plain: bytes) -> None:
    """Write a result atomically, readable only by this user: it was sealed to one party.

    Another file in its place stays as it is, since the proposer chose the name. A link is replaced.
    """
    try:
        if path.is_file() and not path.is_symlink() and path.read_bytes() != plain:
            raise UsageError(f"{path}: another file is there", hint="-o FOLDER: name a folder without it")
        files.write(path, plain)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def _choose_run(room: Room, run_id: str | None) -> str:
    runs = room.runs()
    if run_id is None:
        if not runs:
            raise UnavailableError(
                f"{room.path}: no run has ended here", hint=f"kluis room run {room.path} --image FILE"
            )
        return runs[-1]
    matching = [each for each in runs if each.startswith(run_id)]
    if len(matching) != 1:
        raise UsageError(
            f"run {run_id}: want the name of one of {len(runs)} runs, got {len(matching)} that begin so"
        )
    return matching[0]


COMMANDS = (run, open_, receipt)
