"""A host and a folder's holder against one party's client: stops, old evidence, and other runs' receipts."""

from __future__ import annotations

import datetime
import os
import shutil
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kluis.cleanroom.agreement.agreement import sign
from kluis.cleanroom.agreement.documents import decode, encode
from kluis.cleanroom.agreement.exchange import Challenge, Offer, Release, ReleaseStatement
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.rooms import Room, RoomFile
from kluis.cleanroom.running import conduct, mailbox, release
from kluis.cleanroom.running.release import Owner
from kluis.errors import FreshnessError, KluisError, PolicyError, UnavailableError
from tests.cleanroom import samples
from tests.cleanroom.inprocess import InProcess
from tests.cleanroom.platform import Attester
from tests.cleanroom.tables import Table

NOW = samples.NOW + datetime.timedelta(hours=1)


@pytest.fixture
def table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Table:
    return Table(tmp_path, capsys)


def signed(table: Table) -> None:
    """Have both owners sign what is on the table."""
    for signature in table.setting.signed().signatures:
        table.room.add_signature(signature)


def owner(table: Table, name: str = "clinic") -> Owner:
    return Owner(table.homes[name], table.room.signed_agreement(), table.room.stops(table.room.proposal()))


def enclave(table: Table) -> InProcess:
    found = InProcess(Attester(table.platform))
    found.begin(encode(table.room.signed_agreement()))
    return found


def offered(enclave: InProcess, challenge: Challenge) -> Offer:
    return decode(enclave.offer(encode(challenge)), Offer, "offer")


def ended(table: Table) -> str:
    """One whole run of the room; its id."""
    local_owners: dict[str, conduct.Participant] = {
        name: conduct.LocalOwner(owner(table, name), lambda: NOW) for name in table.homes
    }
    collateral = table.platform.collateral()
    return conduct.conduct(InProcess(Attester(table.platform)), table.room, local_owners, collateral).run


# ---- a client that waits -------------------------------------------------------------------------------


def test_a_stop_while_a_client_waits(table: Table) -> None:
    """A host that delays its offer until the owner has stopped the agreement gets no key for it."""
    signed(table)
    waiting = owner(table)
    offer = offered(enclave(table), waiting.challenge())
    assert table("approve", "--as", "clinic", "--stop")[0] == 0
    with pytest.raises(PolicyError) as caught:
        waiting.release(offer, table.platform.collateral(), NOW)
    assert caught.value.code == "stopped"
    assert table.homes["clinic"].releases(table.agreement.hash) == ()


def test_a_stricter_agreement_while_a_client_waits(table: Table) -> None:
    """Nor does one that delays it until the owner has signed another agreement."""
    signed(table)
    waiting = owner(table)
    offer = offered(enclave(table), waiting.challenge())
    table.homes["clinic"].agree(msgspec.structs.replace(table.agreement, k_min=50))
    with pytest.raises(PolicyError) as caught:
        waiting.release(offer, table.platform.collateral(), NOW)
    assert caught.value.code == "superseded"


def test_a_stop_in_the_middle_of_a_release(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop that ends before the release is recorded holds, however late it comes."""
    signed(table)
    waiting, home = owner(table), table.homes["clinic"]
    offer = offered(enclave(table), waiting.challenge())
    record = Home.record_release

    def stopped_first(self: Home, statement: ReleaseStatement, most: int) -> None:
        release.stop(home, table.agreement, NOW)
        record(self, statement, most)

    monkeypatch.setattr(Home, "record_release", stopped_first)
    with pytest.raises(PolicyError) as caught:
        waiting.release(offer, table.platform.collateral(), NOW)
    assert caught.value.code == "stopped"


def test_an_offer_to_an_earlier_client(table: Table) -> None:
    """Evidence that a host kept, over the nonce of a client that gave up waiting, is as old as that nonce."""
    signed(table)
    kept = offered(enclave(table), owner(table).challenge())
    later = owner(table)
    later.challenge()
    with pytest.raises(FreshnessError) as caught:
        later.release(kept, table.platform.collateral(), NOW)
    assert caught.value.code == "nonce"


def test_a_client_that_asked_nothing(table: Table) -> None:
    """Evidence over an empty nonce, or over none of this client's, gets no key."""
    signed(table)
    session = enclave(table).session
    nobody = session.offer(Challenge(agreement=table.agreement.hash, party="clinic", nonce=bytes(32)))
    with pytest.raises(FreshnessError):
        owner(table).release(nobody, table.platform.collateral(), NOW)


def test_a_host_that_clears_away_before_the_refusal(table: Table) -> None:
    """A run's folder that is gone keeps no refusal from its owner: it sees why it released nothing."""
    signed(table)
    run, other = "ab" * 32, owner(table)
    mailbox.announce(table.room, table.agreement.hash, run, table.platform.collateral())
    folder = table.room.path / "runs" / run
    (folder / "clinic.offer.json").write_bytes(encode(offered(enclave(table), other.challenge())))

    class Late(Owner):
        def release(self, *given: Any, **named: Any) -> Release:
            shutil.rmtree(folder)
            return super().release(*given, **named)

    late = Late(table.homes["clinic"], table.room.signed_agreement())
    with pytest.raises(FreshnessError) as caught:
        mailbox.take_part(table.room, "clinic", late, 60, lambda: NOW)
    assert caught.value.code == "nonce"


def test_the_offer_of_another_run(table: Table) -> None:
    """A host that announces one run and has another's enclave answer gets no key: the log would be false."""
    signed(table)
    announced, other = "ab" * 32, enclave(table)
    collateral = table.platform.collateral()
    mailbox.announce(table.room, table.agreement.hash, announced, collateral)

    def answer() -> None:
        asked = mailbox.RemoteOwner(table.room, "clinic", 10)
        asked.begin(announced)
        with pytest.raises(PolicyError, match="released no key"):
            asked.release(offered(other, asked.challenge()), collateral)

    host = threading.Thread(target=answer)
    host.start()
    try:
        with pytest.raises(PolicyError) as caught:
            mailbox.take_part(table.room, "clinic", owner(table), 10, lambda: NOW)
    finally:
        host.join()
    run = other.session.run_id
    assert caught.value.message == f"offer: want run {announced[:16]}.., got {run[:16]}.."
    assert table.homes["clinic"].releases(table.agreement.hash) == ()


# ---- counting ------------------------------------------------------------------------------------------


def statement(run: str) -> ReleaseStatement:
    return ReleaseStatement(
        kind="kluis-release/1",
        agreement="aa" * 32,
        run=run,
        party="clinic",
        time=NOW,
        evidence="bb" * 32,
        level="process",
        rules=(),
        keys=(),
    )


def test_one_run_asked_twice_at_once(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clients of a party that release to one run at once: one does, and one run is counted."""
    home = table.homes["clinic"]
    both, exists = threading.Barrier(2), Path.exists

    def exists_together(self: Path) -> bool:
        found = exists(self)
        if self.name == "0001.json" and not found:
            both.wait(5)
        return found

    monkeypatch.setattr(Path, "exists", exists_together)

    def recorded(_: int) -> bool:
        try:
            home.record_release(statement("cc" * 32), 5)
        except PolicyError as error:
            return error.code != "release_again"
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(recorded, range(2))) == [False, True]
    assert len(home.releases("aa" * 32)) == 1


def test_a_crash_while_a_release_is_recorded(table: Table) -> None:
    """What a crash leaves of a record is no release, and keeps nobody from reading the others."""
    home = table.homes["clinic"]
    home.record_release(statement("cc" * 32), 5)
    (home.path / "releases" / ("aa" * 32) / ".0002.json.1.ab").write_bytes(b"{")
    assert [each.run for each in home.releases("aa" * 32)] == ["cc" * 32]


@pytest.mark.parametrize("act", ["stop", "release"])
def test_a_record_is_on_the_disk(table: Table, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    """A stop or a release that a power failure could undo would be one more run: its folder is flushed."""
    home = table.homes["clinic"]
    flushed, fsync = [], os.fsync

    def seen(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    if act == "stop":
        home.stop("aa" * 32)
        assert home.path / "stopped" in flushed
    else:
        home.record_release(statement("cc" * 32), 5)
        assert home.path / "releases" / ("aa" * 32) in flushed
        assert home.path / "releases" in flushed


@pytest.mark.parametrize("left", ["00" * 32, "ff" * 32])
def test_a_run_that_a_killed_host_left_open(table: Table, left: str) -> None:
    """An owner takes part in the newest run, whatever the name of one that nobody waits in any more."""
    signed(table)
    new, collateral = "88" * 32, table.platform.collateral()
    for run in (left, new):
        mailbox.announce(table.room, table.agreement.hash, run, collateral)
    os.utime(table.room.path / "runs" / left / "open.json", (1, 1))
    with pytest.raises(UnavailableError):
        mailbox.take_part(table.room, "clinic", owner(table), 0.1, lambda: NOW)
    asked = [run for run in (left, new) if table.room.folder.has(f"runs/{run}/clinic.challenge.json")]
    assert asked == [new]


@pytest.mark.parametrize("hours", [-25, 25, 24 * 20])
def test_a_time_that_no_other_owner_has(table: Table, hours: int) -> None:
    """A co-owner signs another time: no receipt states it, or is of a time at which nobody can check it.

    The others could not open such a run's results, and a co-owner that checks no receipt could.
    """
    signed(table)
    found, laboratory = enclave(table), table.homes["laboratory"]
    for name in table.homes:
        mine = owner(table, name)
        given = mine.release(offered(found, mine.challenge()), table.platform.collateral(), NOW)
        if name == "laboratory":
            statement = decode(given.statement, ReleaseStatement, "release")
            raw = encode(msgspec.structs.replace(statement, time=NOW + datetime.timedelta(hours=hours)))
            given = Release(statement=raw, signature=laboratory.signing.sign("release/1", raw))
        found.accept(encode(given))
    for dataset in table.agreement.datasets:
        for data in table.room.files(dataset):
            found.add_file(dataset.id, data)
    with pytest.raises(FreshnessError) as caught:
        found.run()
    first, last = sorted((NOW, NOW + datetime.timedelta(hours=hours)))
    want = f"want times from {samples.NOW}, at most 24 hours apart, got {first} to {last}"
    assert caught.value.message == f"release: {want}"


# ---- which room, which run -----------------------------------------------------------------------------


def moved(table: Table, room: str) -> Room:
    """The same folder under another room's id, to parties that joined that room in it."""
    file = RoomFile(kind="kluis-room/1", room=room, title="Sample", purpose="Tests")
    table.room.folder.replace("room.json", encode(file))
    for home in table.homes.values():
        home.keep_place(table.room.path, room, "Sample", "Tests")
    return Room(table.room.path)


def test_an_agreement_of_another_room(table: Table) -> None:
    """An agreement that another room is about is not signed here, and replaces none of that room's."""
    moved(table, "99" * 32)
    code, _, err = table.approve("clinic")
    assert (code, f"agreement: want room {'99' * 8}.., got {samples.ROOM[:16]}.." in err) == (6, True)
    assert table.homes["clinic"].current(samples.ROOM) == ""
    assert table.signatures() == []


def test_a_run_under_another_rooms_id(table: Table) -> None:
    """A client that takes part signs no line for another room's log."""
    signed(table)
    moved(table, "99" * 32)
    before = (table.room.path / "events.jsonl").exists()
    code, out, err = table("run", "--as", "clinic", "--wait", "1")
    assert (code, out) == (6, "")
    assert f"agreement: want room {'99' * 8}.., got {samples.ROOM[:16]}.." in err
    assert (table.room.path / "events.jsonl").exists() == before


def test_a_receipt_of_another_room(table: Table) -> None:
    """A run of another room that the same party signed in is no answer of this one."""
    signed(table)
    ended(table)
    assert table("open", "--as", "clinic")[0] == 0
    moved(table, "99" * 32)
    for command in ("open", "receipt"):
        code, out, err = table(command, "--as", "clinic")
        assert (code, out) == (4, "")
        assert f"receipt: want room {'99' * 8}.., got {samples.ROOM[:16]}.." in err


def test_a_run_of_an_agreement_that_was_replaced(table: Table) -> None:
    """A folder without its newest run shows an earlier agreement's: that it is one is said."""
    signed(table)
    run, agreement = ended(table), table.agreement
    words = f"run {run[:16]} of {NOW:%Y-%m-%d %H:%M:%S} UTC, agreement {agreement.hash[:16]}"
    _, out, _ = table("open", "--as", "clinic")
    assert out.splitlines()[0] == words
    table.homes["clinic"].agree(msgspec.structs.replace(agreement, k_min=50))
    _, out, _ = table("open", "--as", "clinic")
    assert out.splitlines()[0] == f"{words} of {agreement.created:%Y-%m-%d}, which clinic replaced"


def test_results_are_for_their_recipient(table: Table, tmp_path: Path) -> None:
    """What was sealed to one party is written for that party's user only, in place of what was there."""
    signed(table)
    ended(table)
    out = tmp_path / "out"
    out.mkdir()
    (out / "by-sex.parquet").symlink_to(tmp_path / "elsewhere")
    assert table("open", "--as", "clinic", "--analysis", "by-sex", "-o", out)[0] == 0
    (written,) = out.iterdir()
    assert (written.name, written.is_symlink(), written.stat().st_mode & 0o777) == (
        "by-sex.parquet",
        False,
        0o600,
    )
    assert not (tmp_path / "elsewhere").exists()
    code, _, err = table("open", "--as", "clinic", "-o", written / "below")
    assert (code, "cannot be written" in err) == (2, True)


def test_an_earlier_run_under_a_later_name(table: Table) -> None:
    """A run's files under the name of another run are not that run's: neither opened nor checked as it."""
    signed(table)
    first, second = ended(table), ended(table)
    runs = table.room.path / "runs"
    for path in (runs / first).iterdir():
        (runs / second / path.name).write_bytes(path.read_bytes())
    for command in ("open", "receipt"):
        code, out, err = table(command, "--as", "clinic", "--run", second)
        assert (code, out) == (4, "")
        assert f"receipt: want run {second[:16]}.., got {first[:16]}.." in err
        assert table(command, "--as", "clinic", "--run", first)[0] == 0


def test_an_older_version_of_ones_data(table: Table) -> None:
    """After an owner sealed its data again, under stricter terms, the version before it is not signed."""
    kept = table.homes["clinic"].key(samples.ROOM, "people", 1)
    table.homes["clinic"].keep_key(msgspec.structs.replace(kept, version=2, terms="aa" * 32))
    code, _, err = table.approve("clinic")
    assert (code, "data set people: want version 2, the last that you sealed, got 1" in err) == (6, True)
    assert table.signatures() == []


# ---- a log that cannot be written, stops that are invalid ------------------------------------------------


@pytest.mark.parametrize("spoilt", ["long", "link", "fifo"])
def test_commands_with_a_spoilt_log(table: Table, spoilt: str) -> None:
    """A log that takes no line fails no command: what a command did has taken effect by then."""
    log = table.room.path / "events.jsonl"
    log.unlink(missing_ok=True)
    if spoilt == "long":
        log.write_bytes(b"A" * 9000)
    elif spoilt == "link":
        log.symlink_to("nowhere")
    else:
        os.mkfifo(log)
    code, out, err = table.approve("clinic")
    assert (code, f"clinic signed {table.agreement.hash}" in out) == (0, True)
    warning = "kluis: warning: the room's log has no line of "
    assert f"{warning}agreement.signed {table.agreement.hash}: " in err
    signed(table)
    run = ended(table)
    code, out, err = table("open", "--as", "clinic")
    assert (code, "by-sex" in out) == (0, True)
    assert f"{warning}result.opened by-sex.{run[:16]}: " in err
    code, out, err = table("approve", "--as", "clinic", "--stop")
    assert (code, f"clinic stopped {table.agreement.hash}" in out) == (0, True)
    assert f"{warning}agreement.stopped {table.agreement.hash}: " in err


def test_a_torn_log(table: Table) -> None:
    """An incomplete last line is removed with a warning, and the log has the command's line."""
    log = table.room.path / "events.jsonl"
    log.write_bytes(b"no line")
    code, _, err = table.approve("clinic")
    assert (code, f"warning: {log}: removed an incomplete last line of 7 bytes" in err) == (0, True)
    code, out, _ = table("events", "--as", "clinic")
    assert (code, "agreement.signed" in out) == (0, True)


def test_stops_with_a_spoilt_log(table: Table) -> None:
    """A log that takes no line keeps no stop out of the folder: not the second one either."""
    first = table.agreement
    assert table.approve("clinic")[0] == 0
    second = table.propose(k_min=50)
    assert table.approve("clinic")[0] == 0
    (table.room.path / "events.jsonl").write_bytes(b"A" * 9000)
    code, _, err = table("approve", "--as", "clinic", "--stop")
    assert (code, "want a last line of at most 8192 bytes" in err) == (0, True)
    shown = {path.name for path in (table.room.path / "stops").iterdir()}
    assert shown == {f"clinic.{each.hash}.json" for each in (first, second)}


def test_a_stop_of_an_empty_name(table: Table) -> None:
    """``--agreement`` with nothing in it, as an unset variable gives, stops nothing."""
    assert table.approve("clinic")[0] == 0
    code, _, err = table("approve", "--as", "clinic", "--stop", "--agreement", "")
    assert (code, "clinic signed no such agreement" in err) == (6, True)
    assert not table.homes["clinic"].has_withdrawn(table.agreement.hash)


def test_a_stop_by_one_who_left(table: Table, tmp_path: Path) -> None:
    """A stop of an earlier agreement stops no later one that its party, or its key, is not in."""
    reader = Home.create(tmp_path / "reader", "reader")
    party = reader.public("A reader", ("recipient", "owner"))
    data = msgspec.structs.replace(table.agreement.datasets[0], id="more", owner="reader")
    earlier = msgspec.structs.replace(
        table.agreement,
        parties=(*table.agreement.parties, party),
        datasets=(*table.agreement.datasets, data),
    )
    table.room.add_stop("reader", earlier.hash, release.stop(reader, earlier, NOW))
    signed(table)
    assert owner(table)
    assert ended(table)
    release.stop(table.homes["clinic"], table.agreement, NOW)
    with pytest.raises(PolicyError):
        owner(table)


# ---- one's own folder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777, 0o1777, 0o720])
def test_a_home_that_others_can_enter(table: Table, mode: int) -> None:
    """In a folder that others can write, they could take away a stop, or put a root there."""
    clinic = table.homes["clinic"].path
    clinic.chmod(mode)
    code, _, err = table("approve", "--as", "clinic", "--stop")
    assert (code, f"want it open to its owner only, got mode {mode & 0o777:04o}" in err) == (7, True)
    assert f"chmod 700 {clinic}" in err


def test_a_home_under_another_name(table: Table) -> None:
    """Another party's keys in the place of a party's own are not used in its name."""
    homes = table.folder / "homes"
    (homes / "clinic").rename(homes / "kept")
    (homes / "laboratory").rename(homes / "clinic")
    code, _, err = table.approve("clinic")
    assert (code, "want the keys of clinic, got those of laboratory" in err) == (7, True)


def test_a_home_that_somebody_else_made(table: Table) -> None:
    """Keys are not made in a folder, or through a link, that somebody else may have put there."""
    victim = table.folder / "victim"
    victim.mkdir(mode=0o755)
    link = table.folder / "homes" / "eve"
    link.symlink_to(victim)
    code, _, err = table("init", "--as", "eve")
    assert (code, "want your own folder, got a link or something else" in err) == (7, True)
    assert list(victim.iterdir()) == []
    assert stat.S_IMODE(victim.stat().st_mode) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_home_of_another_user(table: Table) -> None:
    """A folder of another user is neither used nor made into one's own."""
    eve = table.folder / "homes" / "eve"
    eve.mkdir(mode=0o700)
    os.chown(eve, 65534, 65534)
    code, _, err = table("init", "--as", "eve")
    assert (code, "want it to be yours, got user 65534's" in err) == (7, True)
    assert list(eve.iterdir()) == []
    os.chown(table.homes["clinic"].path, 65534, 65534)
    with pytest.raises(UnavailableError):
        Home(table.homes["clinic"].path)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "people.v1", "\u202ex", "p" * 64])
def test_a_data_set_whose_name_leads_out(table: Table, name: str) -> None:
    """A data set's name is no path into one's own folder, or out of it."""
    file, terms = table.folder / "people.parquet", table.folder / "people.toml"
    samples.people().write_parquet(file)
    terms.write_text(
        'privacy_unit = "id"\nk_min = 5\nrows_per_person = 1\nexpires_days = 9\n[allow]\nid = ["join"]\n'
    )
    before = sorted(table.homes["clinic"].path.rglob("*"))
    code, _, err = table("seal", file, "--as", "clinic", "--dataset", name, "--terms", terms)
    assert (code, "--dataset: want" in err) == (2, True)
    assert sorted(table.homes["clinic"].path.rglob("*")) == before


def test_a_signature_is_by_its_signer(table: Table) -> None:
    """Invalid names in ``signatures`` and ``stops`` by others do not prevent a run."""
    signed(table)
    clinic = sign(table.agreement, "clinic", table.homes["clinic"].signing)
    eve = table.room.path / "signatures" / "eve.json"
    for planted in (b"{", encode(clinic), b"[" * 100_000, b'{"party":"x","party":"x"}', b"1" * 5000):
        eve.write_bytes(planted)
        (table.room.path / "signatures" / "a\x1b[2J\nb.json").write_bytes(planted)
        assert len(table.room.signed_agreement().signatures) == 2
        assert owner(table)
    (table.room.path / "signatures" / "clinic.json").write_bytes(b"{")
    with pytest.raises(KluisError):
        owner(table)
