"""Files that anyone puts into a room's folder before an agreement is proposed: none decides what it names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from kluis.cleanroom.agreement.agreement import Dataset
from kluis.cleanroom.agreement.documents import encode
from kluis.cleanroom.data import datasets
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.rooms import Offered
from kluis.cleanroom.signing import plan
from kluis.cleanroom.signing.plan import Plan
from kluis.errors import AuthenticityError, FormatError, PolicyError, UnavailableError
from tests.cleanroom import samples
from tests.cleanroom.tables import Table

PLAN = Plan(
    expires_days=9,
    k_min=5,
    max_runs=1,
    code=plan.CodeRules(protection=("process",)),
    analysis=(samples.QUERY,),
)


@pytest.fixture
def table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Table:
    return Table(tmp_path, capsys)


@pytest.fixture
def eve(table: Table) -> Home:
    """One that joined as anyone with the folder can."""
    eve = Home.create(table.folder / "mallory" / "eve", "eve")
    table.room.join(eve, eve.public("Eve", ("owner", "recipient")))
    return eve


def chosen(table: Table, *known: str) -> tuple[Dataset, ...]:
    return plan.choose_inputs(table.room, PLAN, lambda name: name in (known or table.homes))


def named(table: Table, *others: str) -> list[str]:
    found = plan.choose_parties(table.room, PLAN, chosen(table), others)
    return [party.id for party in found]


def offered(table: Table, home: Home, **changes: object) -> Dataset:
    """A data set of somebody's, signed by them."""
    dataset: Dataset = msgspec.structs.replace(
        table.agreement.datasets[0], owner=home.party, parts=datasets.describe([b"x"]), **changes
    )
    table.room.add_dataset(home, dataset, (b"x",))
    return dataset


def test_a_party_that_nobody_named(table: Table, eve: Home) -> None:
    """A party with data in the folder is in no agreement unless the proposer names it."""
    offered(table, eve, id="more")
    assert named(table) == ["clinic", "laboratory"]
    assert [each.id for each in chosen(table)] == ["labs", "people"]
    assert named(table, "eve") == ["clinic", "eve", "laboratory"]
    with pytest.raises(UnavailableError, match="party mallory: has not joined"):
        named(table, "mallory")


def test_a_known_data_set_of_a_stranger(table: Table, eve: Home) -> None:
    """A stranger's later version under a known name is passed over; with nobody known, nothing is chosen."""
    offered(table, eve, id="people", version=9)
    assert [(each.id, each.owner, each.version) for each in chosen(table)] == [
        ("labs", "laboratory", 1),
        ("people", "clinic", 1),
    ]
    with pytest.raises(PolicyError) as caught:
        chosen(table, "nobody")
    assert caught.value.message == "data set people: want one owner, got clinic, eve"


def test_a_known_data_set_of_a_co_owner(table: Table) -> None:
    """A co-owner that gives its data another's name does not have it read in the other's place."""
    offered(table, table.homes["laboratory"], id="people", version=9)
    with pytest.raises(PolicyError) as caught:
        chosen(table)
    assert caught.value.message == "data set people: want one owner, got clinic, laboratory"


def junk(path: Path, kind: str) -> None:
    """Something in the place of a document."""
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "device":
            os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero, which has no end
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path.name)
        case "sparse":
            path.touch()
            os.truncate(path, 6 << 30)
        case "deep":
            path.write_bytes(b"[" * 1_000_000)
        case "twice":
            path.write_bytes(b'{"signature":"","signature":""}')
        case "number":
            path.write_bytes(b'{"dataset":' + b"9" * 1_000_000 + b"}")
        case "surrogate":
            path.write_bytes(b'{"dataset":"\\ud800"}')
        case _:
            path.write_bytes(b"\xff\xfe")


JUNK = ("fifo", "device", "folder", "link", "loop", "sparse", "deep", "twice", "number", "surrogate", "bytes")


@pytest.mark.parametrize("kind", JUNK)
def test_other_things_in_the_folder(table: Table, kind: str) -> None:
    """Things of every kind, under names of every kind, change nothing, and keep nobody waiting."""
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("only root makes a device")
    names = ("parties/eve.json", "datasets/people.v7.json", "datasets/eve.v1.json", "signatures/eve.json")
    for name in names:
        junk(table.room.path / name, kind)
    for folder in ("parties", "datasets", "signatures", "stops"):
        for name in (b"\xff\x1b[2J.json", b"a\nkluis: error: b.json", "\u202exjson.json".encode()):
            Path(os.fsdecode(os.fsencode(table.room.path / folder) + b"/" + name)).write_bytes(b"{")
    assert named(table) == ["clinic", "laboratory"]
    assert [each.version for each in chosen(table)] == [1, 1]
    for party in table.homes:
        assert table.approve(party)[0] == 0
    assert len(table.room.signed_agreement().signatures) == 2
    assert table.room.stops(table.agreement) == ()


@pytest.mark.parametrize("kind", JUNK)
@pytest.mark.parametrize("name", ["room.json", "agreement.json", "signatures/clinic.json", "events.jsonl"])
def test_something_else_for_a_document(table: Table, kind: str, name: str) -> None:
    """In the place of a document that is needed, each is refused at once; in the log's, it is a warning."""
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("only root makes a device")
    path = table.room.path / name
    path.unlink(missing_ok=True)
    junk(path, kind)
    code, _, err = table.approve("laboratory")
    # Another's signature is missing then: it is not needed to sign. The log is written after the signature.
    assert code in ((0,) if name.startswith(("signatures", "events")) else (3, 7))
    assert ("kluis: warning: " in err) == name.startswith("events")
    assert "this is a bug" not in err


def test_a_folder_of_the_room_is_a_file(table: Table) -> None:
    """A file, or nothing, where a folder of the room was is no error that looks like a bug."""
    for name in ("parties", "datasets", "signatures", "stops"):
        shutil.rmtree(table.room.path / name)
        (table.room.path / name).write_bytes(b"")
    with pytest.raises(UnavailableError):
        chosen(table)
    code, _, err = table.approve("clinic")
    assert (code, "this is a bug" in err) == (7, False)


def test_a_room_that_is_a_link(table: Table) -> None:
    """A room's folder may be a link of its user's own; a FIFO or a file is no room."""
    link = table.folder / "link"
    link.symlink_to(table.room.path)
    table.room.path = link
    assert table.approve("clinic")[0] == 0
    for kind in ("fifo", "bytes", "loop"):
        link.unlink()
        junk(link, kind)
        assert table.approve("clinic")[0] == 7


def test_a_party_file_about_another(table: Table) -> None:
    """The file of one party under another's name is not accepted for the other."""
    folder = table.room.path / "parties"
    shutil.copyfile(folder / "laboratory.json", folder / "clinic.json")
    with pytest.raises(AuthenticityError, match="want a file about it, got one about laboratory"):
        table.room.party("clinic")


def test_a_full_folder_is_refused(table: Table) -> None:
    """More files than a room has are not read through."""
    for number in range(1001):
        (table.room.path / "datasets" / f"people.v{number + 2}.json").touch()
    with pytest.raises(FormatError, match="want at most 1000 files"):
        chosen(table)


def test_one_document_under_two_names(table: Table) -> None:
    """An earlier version under a later version's file name stays the earlier one."""
    data = encode(
        Offered(
            dataset=encode(table.agreement.datasets[0]),
            signature=table.homes["clinic"].signing.sign("dataset/1", encode(table.agreement.datasets[0])),
        )
    )
    (table.room.path / "datasets" / "people.v8.json").write_bytes(data)
    assert [each.version for each in chosen(table)] == [1, 1]
