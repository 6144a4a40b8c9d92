"""Links, pipes and files of any size in a room's folder: nothing of a party's own is lost."""

from __future__ import annotations

import os
import shutil
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis.cleanroom.agreement.agreement import check_signed, sign
from kluis.cleanroom.agreement.exchange import Challenge
from kluis.cleanroom.records.folder import Folder
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.rooms import Room
from kluis.cleanroom.running import mailbox
from kluis.cleanroom.running.mailbox import RemoteOwner
from kluis.cleanroom.running.release import Owner
from kluis.errors import FormatError, PolicyError, UnavailableError, UsageError
from tests.cleanroom import samples
from tests.cleanroom.tables import Table

RUN = "ab" * 32
HUGE = 6 << 30


@pytest.fixture
def table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Table:
    return Table(tmp_path, capsys)


def contents(home: Home) -> dict[str, bytes]:
    """Every file of a party's own folder."""
    found = (path for path in home.path.rglob("*") if path.is_file())
    return {str(path.relative_to(home.path)): path.read_bytes() for path in found}


def linked(table: Table, name: str, target: Path) -> None:
    """Put a link in the place of one of the room's folders."""
    shutil.rmtree(table.room.path / name)
    (table.room.path / name).symlink_to(target)


# ---- links ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [".", "data/" + samples.ROOM, "agreed"])
def test_signatures_are_a_link(table: Table, where: str) -> None:
    """``propose`` empties ``signatures``: through a link it would empty the party's own folder."""
    clinic = table.homes["clinic"]
    table.setting.signed()
    (clinic.path / "agreed" / "x.json").write_bytes(b"{}")
    before = contents(clinic)
    linked(table, "signatures", clinic.path / where)
    with pytest.raises(UnavailableError, match="want a folder, got a link or another thing"):
        table.room.propose(table.agreement)
    with pytest.raises(UnavailableError):
        table.room.add_signature(sign(table.agreement, "clinic", clinic.signing))
    assert contents(clinic) == before


ACTS: dict[str, Callable[[Table], object]] = {
    "parties": lambda table: table.room.join(table.homes["clinic"], table.agreement.parties[0]),
    "datasets": lambda table: table.room.add_dataset(
        table.homes["clinic"], table.agreement.datasets[0], (b"x",)
    ),
    "stops": lambda table: table("approve", "--as", "clinic", "--stop"),
    "runs": lambda table: mailbox.announce(table.room, "aa" * 32, RUN, b""),
}


@pytest.mark.parametrize("name", sorted(ACTS))
def test_other_folders_are_links(table: Table, name: str) -> None:
    """In no folder of the room is anything written or removed through a link."""
    clinic = table.homes["clinic"]
    assert table.approve("clinic")[0] == 0
    victim = table.folder / "victim"
    victim.mkdir()
    (victim / RUN).mkdir()
    linked(table, name, victim)
    if name == "stops":
        code, _, err = ACTS[name](table)  # type: ignore[misc]
        assert (code, "want a folder, got a link" in err) == (0, True)
        assert clinic.has_withdrawn(table.agreement.hash)
    else:
        with pytest.raises(UnavailableError, match="want a folder, got a link"):
            ACTS[name](table)
    assert [path.name for path in victim.rglob("*")] == [RUN]


def test_a_run_is_a_link(table: Table) -> None:
    """A link in the place of a run's folder is not entered: not to answer, and not to clear away."""
    victim = table.folder / "victim"
    victim.mkdir()
    for name in ("open.json", "clinic.release.json"):
        (victim / name).write_bytes(b"mine")
    (table.room.path / "runs" / RUN).symlink_to(victim)
    for act in (
        lambda: mailbox.announce(table.room, "aa" * 32, RUN, b""),
        lambda: mailbox.withdraw(table.room, RUN),
    ):
        with pytest.raises(UnavailableError):
            act()
    assert sorted(path.read_bytes() for path in victim.iterdir()) == [b"mine", b"mine"]
    assert table.room.runs() == ()


def test_a_file_is_a_link(table: Table) -> None:
    """A link in a file's place is replaced where it is written, and refused where it is read."""
    keys = table.homes["clinic"].path / "keys.json"
    before = keys.read_bytes()
    agreement = table.room.path / "agreement.json"
    agreement.unlink()
    agreement.symlink_to(keys)
    with pytest.raises(UnavailableError, match="no agreement is proposed"):
        table.room.proposal()
    table.room.propose(table.agreement)
    assert (keys.read_bytes(), agreement.is_symlink()) == (before, False)


def test_the_log_is_a_second_name(table: Table) -> None:
    """The log is written in place: a file of the party's own under its name is not lengthened."""
    keys = table.homes["clinic"].path / "keys.json"
    before = keys.read_bytes()
    os.link(keys, table.room.path / "events.jsonl")
    code, _, err = table.approve("clinic")
    assert (code, "want a file with one name, got one with another name as well" in err) == (0, True)
    assert keys.read_bytes() == before


def test_a_link_comes_and_goes(table: Table) -> None:
    """However often ``signatures`` turns into a link meanwhile, the party's own folder stays whole."""
    clinic = table.homes["clinic"]
    for number in range(20):
        (clinic.path / f"{number}.json").write_bytes(b"{}")
    before = contents(clinic)
    place, kept = table.room.path / "signatures", table.room.path / "kept"
    (table.room.path / "link").symlink_to(clinic.path)
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            os.rename(place, kept)
            os.rename(table.room.path / "link", place)
            os.rename(place, table.room.path / "link")
            os.rename(kept, place)

    other = threading.Thread(target=swap)
    other.start()
    outcomes = set()
    try:
        for _ in range(1500):
            try:
                table.room.propose(table.agreement)
                outcomes.add("done")
            except UnavailableError:
                outcomes.add("refused")
    finally:
        ended.set()
        other.join()
    assert outcomes == {"done", "refused"}
    assert contents(clinic) == before


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "runs/../../x", "", ".", "runs//x", "a\0b"])
def test_names_that_lead_out(table: Table, name: str) -> None:
    """No name leads out of the folder."""
    with pytest.raises((UsageError, UnavailableError)):
        Folder(table.room.path).replace(name, b"x")
    assert not (table.folder / "x").exists()


def test_a_room_is_made_once(table: Table) -> None:
    """Two who make a room at once do not both: the id of the first one stays."""
    before = table.room.file.room
    with pytest.raises(UsageError, match="is a room already"):
        Room.create(table.room.path, "Another", "Tests")
    assert Room(table.room.path).file.room == before


# ---- sizes ---------------------------------------------------------------------------------------------


def huge(path: Path) -> None:
    """A sparse file of 6 GB, which costs its author nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, HUGE)


@pytest.fixture
def little() -> Iterator[None]:
    """Hold a test to 32 MiB of Python's memory."""
    tracemalloc.start()
    yield
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 32 << 20


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("name", ["clinic.challenge", "clinic.refused"])
def test_a_document_of_an_owner_is_huge(table: Table, name: str) -> None:
    """The host reads nothing of a 6 GB file in an owner's name."""
    huge(table.room.path / "runs" / RUN / f"{name}.json")
    owner = RemoteOwner(table.room, "clinic", 1)
    owner.begin(RUN)
    with pytest.raises(FormatError) as caught:
        owner.challenge()
    assert caught.value.code == "too_large"


@pytest.mark.usefixtures("little")
def test_the_hosts_documents_are_huge(table: Table) -> None:
    """An owner's client reads none of 6 GB that stand for a host's run, or for its offer."""
    owner = Owner(table.homes["clinic"], table.setting.signed())
    path = table.room.path / "runs" / RUN / "open.json"
    huge(path)
    with pytest.raises(FormatError) as caught:
        mailbox.take_part(table.room, "clinic", owner, 1, lambda: samples.NOW)
    assert caught.value.code == "too_large"
    mailbox.announce(table.room, table.agreement.hash, RUN, b"")
    huge(path.parent / "clinic.offer.json")
    with pytest.raises(FormatError) as offered:
        mailbox.take_part(table.room, "clinic", owner, 1, lambda: samples.NOW)
    assert offered.value.code == "too_large"
    assert isinstance(mailbox._get(table.room, RUN, "clinic.challenge", Challenge), Challenge)


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("kind", ["parties", "stops"])
def test_a_document_is_huge(table: Table, kind: str) -> None:
    """Nor is any other document of the room read past its bound."""
    names = {"stops": f"clinic.{table.agreement.hash}.json"}
    huge(table.room.path / kind / names.get(kind, "eve.json"))
    read = {
        "parties": lambda: table.room.party("eve"),
        "stops": lambda: table.room.stops(table.agreement),
    }
    with pytest.raises(FormatError) as caught:
        read[kind]()
    assert caught.value.code == "too_large"


@pytest.mark.usefixtures("little")
def test_a_data_sets_document_is_huge(table: Table) -> None:
    """A data set whose document is past its bound is not read, and not offered."""
    before = table.room.offers("people")
    huge(table.room.path / "datasets" / "people.v2.json")
    assert table.room.offers("people") == before == (table.agreement.datasets[0],)


@pytest.mark.usefixtures("little")
def test_a_sealed_file_is_huge(table: Table) -> None:
    """Of a sealed file no more is read than the agreement states."""
    dataset = table.agreement.datasets[0]
    huge(table.room.path / "datasets" / f"{dataset.id}.v1.0.parquet")
    with pytest.raises(FormatError) as caught:
        list(table.room.files(dataset))
    assert caught.value.message.endswith(f"want at most {dataset.parts[0].size_bytes} bytes, got more")


@pytest.mark.usefixtures("little")
def test_a_receipt_from_elsewhere_is_huge(table: Table) -> None:
    """``kluis room receipt FILE`` reads 4 MiB of a file that somebody sent, and no more."""
    path = table.folder / "receipt.json"
    huge(path)
    table.room.path = path
    code, _, err = table("receipt", "--agreement", "aa" * 32)
    assert (code, "want at most 4194304 bytes, got more" in err) == (3, True)


def test_as_many_files_as_one_likes(table: Table) -> None:
    """A folder with more documents than a room has is refused, and not read to its end."""
    for number in range(1001):
        (table.room.path / "stops" / f"p{number}.json").touch()
        (table.room.path / "datasets" / f"p{number}.json").touch()
    with pytest.raises(FormatError) as caught:
        table.room.offers("people")
    assert caught.value.message.endswith("datasets: want at most 1000 files, got more")
    assert table.room.stops(table.agreement) == ()  # which are looked up by their names


def test_a_run_goes_on(table: Table) -> None:
    """Invalid names in ``runs`` are ignored."""
    (table.room.path / "runs" / "x").mkdir()
    (table.room.path / "runs" / ("c" * 64)).touch()
    mailbox.announce(table.room, table.agreement.hash, RUN, b"")
    assert mailbox._open_run(table.room, table.agreement.hash, 1).run == RUN
    mailbox.withdraw(table.room, RUN)
    assert not (table.room.path / "runs" / RUN).exists()


def test_a_document_that_cannot_be_read_keeps_no_other_from_being_read(table: Table) -> None:
    """Of a run, in a party's name, and before it: each is passed over until it is replaced."""
    for run in ("00" * 32, "ff" * 32):
        (table.room.path / "runs" / run).mkdir()
        (table.room.path / "runs" / run / "open.json").write_bytes(b"{")
    with pytest.raises(FormatError) as caught:
        mailbox._open_run(table.room, table.agreement.hash, 0)
    assert caught.value.message.startswith(f"runs/{'f' * 16}../open.json at 0x1: ")
    mailbox.announce(table.room, table.agreement.hash, RUN, b"")
    assert mailbox._open_run(table.room, table.agreement.hash, 0).run == RUN

    path = table.room.path / "runs" / RUN / "clinic.challenge.json"
    path.write_bytes(b"{")
    host = RemoteOwner(table.room, "clinic", 0)
    host.begin(RUN)
    with pytest.raises(FormatError) as named:
        host.challenge()
    assert named.value.message.startswith(f"runs/{'ab' * 8}../clinic.challenge.json at 0x1: ")
    host, real = RemoteOwner(table.room, "clinic", 60), Owner(table.homes["clinic"], table.setting.signed())
    host.begin(RUN)
    challenge = real.challenge()
    later = threading.Timer(0.3, lambda: mailbox._put(table.room, RUN, "clinic.challenge", challenge))
    later.start()
    assert host.challenge() == challenge
    later.join()


def test_a_stop_that_cannot_be_read(table: Table) -> None:
    """In the place of an owner's stop of this agreement, it ends the run; in any other place, nothing."""
    stops, name = table.room.path / "stops", table.agreement.hash
    for other in (f"clinic.{RUN}.json", f"eve.{name}.json", "clinic.json"):
        (stops / other).write_bytes(b"{")
    assert table.room.stops(table.agreement) == ()
    (stops / f"clinic.{name}.json").write_bytes(b"{")
    with pytest.raises(FormatError, match=rf"^stops/clinic.{name}.json at 0x1: "):
        table.room.stops(table.agreement)


def test_a_signature_that_cannot_be_read(table: Table) -> None:
    """Its party has not signed, which is said by name; the others can sign."""
    for each in table.setting.signed().signatures:
        table.room.add_signature(each)
    (table.room.path / "signatures" / "clinic.json").write_bytes(b"{")
    with pytest.raises(PolicyError, match=r"want a signature of every party, missing \['clinic'\]"):
        check_signed(table.room.signed_agreement())
    assert table.approve("laboratory")[0] == 0
