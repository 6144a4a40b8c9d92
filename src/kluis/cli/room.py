"""``kluis room``: init, seal, propose, approve, run, open, receipt; ``room_events`` has events."""

from __future__ import annotations

import contextlib
import datetime
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from kluis.cleanroom import agreement as agreements
from kluis.cleanroom import conduct, datasets, events, mailbox, plan, release, results, terms_toml
from kluis.cleanroom.agreement import Dataset, Role, check_signed
from kluis.cleanroom.documents import as_json, decode, hash_of
from kluis.cleanroom.explain import explain
from kluis.cleanroom.home import DataKey, Home
from kluis.cleanroom.receipt import ReceiptFile, check_receipt, check_result
from kluis.cleanroom.release import Owner
from kluis.cleanroom.room import Room
from kluis.cli import parties, protections, render, room_events
from kluis.cli.room_text import shown, told
from kluis.errors import FormatError, PolicyError, UnavailableError, UsageError
from kluis.host import load
from kluis.tee import measure
from kluis.tee.platform.client import Platform

_Room = Annotated[Path, typer.Argument(metavar="ROOM", help="The room's folder.")]
_Run = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Which run. [default: the newest]")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    room = typer.Typer(
        help="Clean rooms: several owners, one computation.", rich_markup_mode=None, no_args_is_help=True
    )
    for command in (init, seal, propose, approve, run, open_, receipt):
        room.command(command.__name__.rstrip("_"))(command)
    room_events.register(room)
    app.add_typer(room, name="room")


def init(
    room: _Room,
    party: parties.As,
    name: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Your name for people. [default: PARTY]")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE",
            help="owner, recipient, analyst, auditor or operator; repeat it for several. "
            "[default: owner, recipient]",
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="What a new room is called.")] = None,
    purpose: Annotated[str | None, typer.Option(metavar="TEXT", help="What a new room is for.")] = None,
    homes: parties.Homes = None,
    json: render.Json = False,
) -> None:
    """Make a room, or join one; makes your keys where you have none."""
    chosen = tuple(role or ("owner", "recipient"))
    unknown = sorted(set(chosen) - set(get_args(Role)))
    if unknown:
        raise UsageError(f"--role: want one of {', '.join(sorted(get_args(Role)))}, got {unknown[0][:32]!a}")
    if not (room / "room.json").exists():
        if not title or not purpose:
            raise UsageError(
                "init: a new room wants a title and a purpose", hint="--title TEXT --purpose TEXT"
            )
        Room.create(room, title, purpose)
    opened = Room(room)
    home = parties.home(homes, party, make=True)
    opened.join(home, home.public(name or party, cast("tuple[Role, ...]", chosen)))
    _record(opened, home, "party.joined", party)
    value = {"room": opened.file.room, "party": party, "keys": str(home.path), "roles": sorted(chosen)}
    render.out(value, f"{party} is in {room} as {', '.join(sorted(chosen))}; its keys are in {home.path}")


def seal(
    room: _Room,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Your data, a Parquet file.")],
    party: parties.As,
    dataset: Annotated[str, typer.Option(metavar="NAME", help="What queries call it.")],
    terms: Annotated[Path, typer.Option(metavar="TOML", help="Privacy unit, least group, uses by column.")],
    homes: parties.Homes = None,
    json: render.Json = False,
) -> None:
    """Encrypt a data set for a room, under your terms; the key stays with you."""
    opened, home = Room(room), parties.home(homes, party)
    table = datasets.read_plain(_bytes(file), str(file))
    agreed = terms_toml.read_terms(_text(terms), table, _now())
    version = home.next_version(opened.file.room, dataset)
    key = datasets.new_key()
    sealed = datasets.seal(table, key, opened.file.room, dataset, version, agreed)
    described = Dataset(
        id=dataset, version=version, owner=party, terms=agreed, parts=datasets.describe([sealed])
    )
    home.keep_key(
        DataKey(
            room=opened.file.room,
            dataset=dataset,
            version=version,
            terms=hash_of(agreed),
            parts=tuple(part.sha256 for part in described.parts),
            key=key,
        )
    )
    opened.add_dataset(home, described, (sealed,))
    _record(opened, home, "dataset.sealed", f"{dataset}.v{version}")
    size = len(sealed)
    render.out(
        {"dataset": dataset, "version": version, "bytes": size, "parts": as_json(described)["parts"]},
        f"{dataset} version {version}: {size:,} bytes of ciphertext in {room}; its key is in {home.path}",
    )


def propose(
    room: _Room,
    party: parties.As,
    plan_file: Annotated[Path, typer.Option("--plan", metavar="TOML", help="Analyses and output rules.")],
    image: Annotated[Path, typer.Option(metavar="FILE", help="The code: a .kluis image.")],
    root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PEM", help="Root that evidence must chain to. [default: this machine's platform's]"
        ),
    ] = None,
    homes: parties.Homes = None,
    json: render.Json = False,
) -> None:
    """Write the agreement that everyone is asked to sign, and sign it first."""
    opened, home = Room(room), parties.home(homes, party)
    found = measure.measure(image)
    if found.mrsigner is None or found.debug:
        raise PolicyError("image: want it signed and not for debug", hint="kluis build DIR -o FILE --key PEM")
    identity = plan.Image(found.image_id.hex(), found.mrsigner.hex(), found.image.manifest.product_id)
    roots = [_bytes(path) for path in root] if root else [Platform.connect().root_pem()]
    agreement = plan.draft(
        opened.file,
        plan.read_plan(_text(plan_file)),
        opened.parties(),
        opened.datasets(),
        identity,
        tuple(each.decode() for each in roots),
        _now(),
    )
    signature = agreements.sign(agreement, party, home.signing)
    opened.propose(agreement)
    opened.add_signature(signature)
    home.agree(agreement)
    _record(opened, home, "agreement.proposed", agreement.hash)
    render.out({"agreement": agreement.hash, **as_json(agreement)}, explain(agreement))


def approve(
    room: _Room,
    party: parties.As,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; you have read it.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Withdraw: nothing more runs under it.")] = False,
    homes: parties.Homes = None,
    json: render.Json = False,
) -> None:
    """Read the proposed agreement, check it against your own records, and sign it; or stop it."""
    opened, home = Room(room), parties.home(homes, party)
    agreement = opened.proposal()
    if stop:
        opened.add_stop(party, release.stop(home, agreement, _now()))
        _record(opened, home, "agreement.stopped", agreement.hash)
        render.out({"agreement": agreement.hash, "stopped": party}, f"{party} stopped {agreement.hash}")
        return
    plan.check_analyses(agreement)
    for dataset in agreement.owned_by(party):
        kept = home.key(agreement.room, dataset.id, dataset.version)
        if kept.terms != hash_of(dataset.terms) or kept.parts != tuple(each.sha256 for each in dataset.parts):
            raise PolicyError(f"data set {dataset.id}: the proposal has other terms or files than you sealed")
    if not yes:
        render.note(explain(agreement))
        typer.confirm("sign it?", abort=True, err=True)
    opened.add_signature(agreements.sign(agreement, party, home.signing))
    home.agree(agreement)
    _record(opened, home, "agreement.signed", agreement.hash)
    missing = sorted(
        {each.id for each in agreement.parties} - {each.party for each in opened.signed().signatures}
    )
    text = f"{party} signed {agreement.hash}; " + (
        f"still to sign: {', '.join(missing)}" if missing else "all signed"
    )
    render.out({"agreement": agreement.hash, "signed": party, "missing": missing}, text)


def run(
    room: _Room,
    party: Annotated[
        list[str] | None,
        typer.Option("--as", metavar="PARTY", help="Whose client acts here; repeat it for several."),
    ] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Host the run: start this image here.")
    ] = None,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for the others.")] = 60.0,
    insecure_allow_missing: Annotated[
        list[str] | None, typer.Option(metavar="NAMES", help="Start without protections this machine lacks.")
    ] = None,
    homes: parties.Homes = None,
    json: render.Json = False,
) -> None:
    """Host a run (with --image), or take part in one that another machine hosts."""
    opened = Room(room)
    signed = opened.signed()
    agreement = check_signed(signed)
    local = {name: Owner(parties.home(homes, name), signed, opened.stops()) for name in party or ()}
    if image is None:
        if len(local) != 1:
            raise UsageError("run: want --image FILE to host it, or one --as PARTY to take part in it")
        name, owner = next(iter(local.items()))
        taken = mailbox.take_part(opened, name, owner, wait, _now)
        _record(opened, parties.home(homes, name), "key.released", taken)
        render.out(
            {"run": taken, "released": name},
            f"{name} verified the enclave and released its keys to run {taken}",
        )
        return
    elsewhere = {
        each: mailbox.Elsewhere(opened, each, wait) for each in agreement.owners if each not in local
    }
    at_hand = {name: conduct.AtHand(owner, _now) for name, owner in local.items() if name in agreement.owners}
    platform = Platform.connect()
    collateral = platform.collateral()
    with contextlib.ExitStack() as after:

        def begun(run_id: str) -> None:
            if elsewhere:
                after.callback(mailbox.withdraw, opened, run_id)
                mailbox.announce(opened, agreement.hash, run_id, collateral)
            for each in elsewhere.values():
                each.begin(run_id)

        enclave = after.enter_context(
            load(
                image,
                insecure_allow_missing=protections.allowed(insecure_allow_missing),
            )
        )
        ended = conduct.conduct(
            cast("conduct.Enclave", enclave), opened, {**at_hand, **elsewhere}, collateral, begun
        )
    for name in at_hand:
        _record(opened, parties.home(homes, name), "key.released", ended.run)
    for name in list(local)[:1]:  # one line of one party's: they are all here
        _record(opened, parties.home(homes, name), "run.finished", ended.run)
    checked = check_receipt(ended.receipt, agreement.hash)
    done = checked.statement.analyses
    lines = [("analysis", "least group"), *((each.id, str(each.k)) for each in done)]
    render.out(
        {"run": ended.run, "folder": str(ended.folder), "analyses": [as_json(each) for each in done]},
        f"run {ended.run}\n{render.table(lines)}",
    )


def open_(
    room: _Room,
    party: parties.As,
    analysis: Annotated[
        str | None, typer.Option(metavar="ID", help="Which. [default: every one that is yours]")
    ] = None,
    run_id: _Run = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write the results there.")
    ] = None,
    homes: parties.Homes = None,
    json: render.Json = False,
) -> None:
    """Check a run's receipt and open the results that are sealed to you."""
    opened, home = Room(room), parties.home(homes, party)
    chosen = _chosen(opened, run_id)
    checked = check_receipt(opened.receipt(chosen), _own_record(home, opened.receipt(chosen)))
    mine = [
        each.id
        for each in checked.agreement.analyses
        if party in each.recipients and analysis in (None, each.id)
    ]
    if not mine:
        raise PolicyError(f"run {chosen[:16]}: no result of it is sealed to {party}", code="recipient")
    values, texts = {}, []
    for name in mine:
        sealed = opened.sealed_result(chosen, name)
        check_result(checked, sealed, name)
        header, plain = results.open_result(sealed, party, home.sealing)
        values[name], text = shown(header.format, plain)
        texts.append(f"{name}\n{text}")
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{name}.{header.format}").write_bytes(plain)
        _record(opened, home, "result.opened", f"{name}.{chosen[:16]}")
    render.out(values, "\n".join(texts))


def receipt(
    room: Annotated[Path, typer.Argument(metavar="ROOM", help="The room's folder, or a receipt file.")],
    agreement: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="The agreement it must be of. [default: the room's]"),
    ] = None,
    run_id: _Run = None,
    json: render.Json = False,
) -> None:
    """Check a receipt, offline and as of its time, and say what it proves."""
    if room.is_file():
        file = decode(_bytes(room), ReceiptFile, str(room))
        if agreement is None:
            raise UsageError("receipt: want the agreement it must be of", hint="--agreement HASH")
    else:
        opened = Room(room)
        file = opened.receipt(_chosen(opened, run_id))
        agreement = agreement or opened.proposal().hash
    checked = check_receipt(file, agreement)
    render.out(
        {
            "statement": as_json(checked.statement),
            "level": checked.verdict.level,
            "verdict": checked.verdict.result.verdict.value,
            "rules": list(checked.verdict.rules),
            "not_kept_out": list(checked.verdict.result.not_kept_out),
        },
        render.folded(told(checked)),
    )


def _own_record(home: Home, file: ReceiptFile) -> str:
    """The agreement's hash, if this party signed it by its own record; the room's word is not enough."""
    name = check_signed(file.agreement).hash
    if not home.agreed(name):
        raise PolicyError(
            f"agreement {name[:16]}: {home.party} did not sign it, by its own record",
            code="agreement_unsigned",
        )
    return name


def _chosen(room: Room, run_id: str | None) -> str:
    runs = room.runs()
    if run_id is None:
        if not runs:
            raise UnavailableError(
                f"{room.path}: no run has ended here", hint=f"kluis room run {room.path} --image FILE"
            )
        return runs[-1]
    found = [each for each in runs if each.startswith(run_id)]
    if len(found) != 1:
        raise UsageError(
            f"run {run_id}: want the name of one of {len(runs)} runs, got {len(found)} that begin so"
        )
    return found[0]


def _record(room: Room, home: Home, kind: events.Kind, subject: str) -> None:
    events.append(room.path / "events.jsonl", room.file.room, home, kind, subject, _now())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: want text, found a byte that is not UTF-8 at {error.start:#x}") from error
