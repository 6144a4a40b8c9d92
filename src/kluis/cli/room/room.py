"""``kluis room``: init, seal, propose; ``room_sign`` signs and stops, ``room_run`` runs and opens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

from kluis import files
from kluis.cleanroom.agreement import fingerprint
from kluis.cleanroom.agreement.agreement import Dataset, Role
from kluis.cleanroom.agreement.documents import as_json, hash_of
from kluis.cleanroom.records.home import DataKey
from kluis.cleanroom.records.homes import check_name, open_home
from kluis.cleanroom.records.rooms import Room
from kluis.cleanroom.records.trust import read_confirmations
from kluis.cleanroom.signing import approval
from kluis.cleanroom.signing.explain import explain
from kluis.cli import completion, render
from kluis.cli.evidence.machines import machine_of
from kluis.cli.parameters import argument, option
from kluis.cli.room import parties, room_events, room_files, room_image, room_run, room_sign
from kluis.cli.room.room_files import now, record
from kluis.cli.room.room_text import about
from kluis.errors import UsageError, foreign, unknown
from kluis.tee.platform.client import Platform


def init(
    room: room_files.RoomArgument,
    party: parties.As,
    name: Annotated[str | None, option("Your name for people. [default: PARTY]", "TEXT")] = None,
    role: Annotated[
        list[str] | None,
        option(
            "owner, recipient, analyst, auditor or operator; may be repeated. [default: owner, recipient]",
            "ROLE",
            complete=completion.words(get_args(Role)),
        ),
    ] = None,
    title: Annotated[str | None, option("The title of a new room.", "TEXT")] = None,
    purpose: Annotated[str | None, option("The purpose of a new room.", "TEXT")] = None,
    homes: parties.Homes = None,
) -> None:
    """Create a room, or join one.

    Generates your keys if you have none.
    """
    chosen = tuple(role or ("owner", "recipient"))
    if others := sorted(set(chosen) - set(get_args(Role))):
        raise unknown("--role", others[0], sorted(get_args(Role)))
    is_new = not (room / "room.json").exists()
    if is_new:
        if not title or not purpose:
            raise UsageError(
                "init: a new room wants a title and a purpose", hint="--title TEXT --purpose TEXT"
            )
        Room.create(room, title, purpose)
    opened = Room(room)
    if (title or opened.file.title, purpose or opened.file.purpose) != (
        opened.file.title,
        opened.file.purpose,
    ):
        raise UsageError(
            f"init: {room} is a room already: {foreign(opened.file.title, 80)!a}, "
            f"for {foreign(opened.file.purpose, 80)!a}",
            hint="to join it, leave out --title and --purpose",
        )
    home = open_home(homes, party, make=True)
    if is_new:
        for record_of_place in home.place_paths(room):  # of an earlier room in this folder
            record_of_place.unlink(missing_ok=True)
    opened.join(home, home.public(name or party, cast("tuple[Role, ...]", chosen)))
    printed = fingerprint.of(home.public(name or party, ("owner",)))
    value = {
        "room": opened.file.room,
        "title": opened.file.title,
        "purpose": opened.file.purpose,
        "party": party,
        "keys": str(home.path),
        "roles": sorted(chosen),
        "fingerprint": printed,
    }
    lines = [
        render.fold(f"{party} is in {room} as {', '.join(sorted(chosen))}; its keys are in {home.path}"),
        f"room {opened.file.room[:16]}..",
        *about(title=opened.file.title, purpose=opened.file.purpose),
        render.fold(
            f"fingerprint {printed}: read it to the other parties, over another channel than this folder"
        ),
    ]
    render.out(value, "\n".join(lines))
    record(opened, home, "party.joined", party)


def seal(
    room: room_files.RoomArgument,
    file: Annotated[Path, argument("Your data, a Parquet file.", "FILE")],
    party: parties.As,
    dataset: Annotated[str, option("Its name in queries.", "NAME")],
    terms: Annotated[Path, option("Terms: privacy unit, minimum group, uses of each column.", "TOML")],
    homes: parties.Homes = None,
) -> None:
    """Encrypt a data set for a room, under your terms.

    The key stays with you.
    """
    from kluis.cleanroom.data import datasets, terms_toml  # these want the extra, and the help does not

    opened, home = Room(room), open_home(homes, party)
    opened.require_joined(home)
    datasets.check_name(dataset, "--dataset")
    with files.named(file) as data:
        hint = "write it as Parquet: polars.read_csv(FILE).write_parquet(OUT)"
        table = datasets.read_table(data.read(), str(file), hint)
    agreed = terms_toml.read_terms(room_files.text(terms), table, now(), terms.name)
    version = home.next_version(opened.file.room, dataset)
    opened.require_free(dataset, version, party)  # before a key takes the version
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
    size = len(sealed)
    lines = [
        f"{dataset} version {version}: {size:,} bytes of ciphertext in {room}; its key is in {home.path}",
        *about(room=opened.file.title),
    ]
    render.out(
        {
            "dataset": dataset,
            "version": version,
            "room": opened.file.room,
            "title": opened.file.title,
            "bytes": size,
            "parts": as_json(described)["parts"],
        },
        "\n".join(lines),
    )
    record(opened, home, "dataset.sealed", f"{dataset}.v{version}")


def propose(
    room: room_files.RoomArgument,
    party: parties.As,
    plan_file: Annotated[Path, option("The analyses and output rules.", "TOML", "--plan")],
    image: Annotated[Path, option("The code: a .kluis image.", "FILE")],
    others: Annotated[
        list[str] | None,
        option(
            "A party that signs without data or results, such as an auditor; may be repeated.",
            "PARTY",
            "--with",
        ),
    ] = None,
    machine: Annotated[
        Path | None,
        option("The code must run in a machine that the table [machine] of this policy accepts.", "POLICY"),
    ] = None,
    root: room_files.Roots = None,
    confirm: room_files.Confirmations = None,
    homes: parties.Homes = None,
) -> None:
    """Write the agreement that everyone is to sign, and sign it first.

    Its parties are you, the owners of the data that the plan reads, its recipients, and those of --with.

    Evidence must chain to one of --root; without it, to the root of this machine's platform.
    """
    from kluis.cleanroom.signing import plan  # which wants the extra

    opened, home = Room(room), open_home(homes, party)
    opened.require_joined(home)
    measured, mrsigner = room_image.measure_signed(image)
    identity = plan.Image(measured.image_id.hex(), mrsigner.hex(), measured.image.manifest.product_id)
    roots = (
        [files.read_named(path, room_files.MAX_TEXT) for path in root]
        if root
        else [Platform.connect().root_pem()]
    )
    trust = room_files.trust(home, root)
    proposed = plan.read_plan(room_files.text(plan_file), plan_file.name)
    confirmed = read_confirmations(confirm or ())
    inputs = plan.choose_inputs(
        opened, proposed, lambda name: name == party or name in confirmed or bool(home.pinned_keys(name))
    )
    named = plan.choose_parties(
        opened, proposed, inputs, [party, *(check_name("--with", each) for each in others or ())]
    )
    room_sign.confirm_given(trust, named, confirm)
    room_sign.confirm_parties(trust, named)
    agreement = plan.draft(
        opened.file,
        proposed,
        named,
        inputs,
        identity,
        tuple(each.decode() for each in roots),
        now(),
        machine=machine_of(machine),
    )
    signature = approval.sign(opened, home, trust, agreement)
    approval.remember(home, trust, agreement)
    opened.propose(agreement)
    opened.add_signature(signature)
    render.out({"agreement": agreement.hash, **as_json(agreement)}, explain(agreement, trust))
    record(opened, home, "agreement.proposed", agreement.hash)


COMMANDS = (init, seal, propose, *room_sign.COMMANDS, *room_run.COMMANDS, room_events.events)
