"""A proposer, or anyone who can write in a folder: other keys, code, roots and texts than were shown."""

from __future__ import annotations

import datetime
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.authority import issuing
from kluis.authority.authority import ROOT_CN
from kluis.cleanroom.agreement import fingerprint, shown
from kluis.cleanroom.agreement.agreement import (
    Agreement,
    Code,
    Measurement,
    Signature,
    SqlAnalysis,
    check_signed,
    sign,
)
from kluis.cleanroom.agreement.documents import encode
from kluis.cleanroom.agreement.exchange import receipt_payload
from kluis.cleanroom.receipts.receipt import check_receipt
from kluis.cleanroom.receipts.verdict import check_evidence
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.trust import Trust
from kluis.cleanroom.running import conduct
from kluis.cleanroom.running.release import Owner
from kluis.cleanroom.running.session import Session
from kluis.cleanroom.signing.explain import explain
from kluis.errors import AuthenticityError, KluisError, PolicyError
from kluis.formats.kluis.runtime_data import Purpose
from kluis.hashes import sha256
from tests.cleanroom import samples
from tests.cleanroom.inprocess import InProcess
from tests.cleanroom.platform import Attester, Platform
from tests.cleanroom.tables import Table, signed_unchecked

NOW = samples.NOW + datetime.timedelta(hours=1)
EVIL = "66" * 32


@pytest.fixture
def table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Table:
    return Table(tmp_path, capsys)


def usurped(table: Table, tmp_path: Path, name: str, **keys: bytes) -> tuple[Home, Any]:
    """Keys of the attacker's own in a party's name, in the agreement on the table."""
    home = Home.create(tmp_path / "mallory" / name, name)
    party = msgspec.structs.replace(
        table.setting.agreement.party(name),
        **(keys or {"signing_key": home.signing.public, "sealing_key": home.sealing.public}),
    )
    others = tuple(party if each.id == name else each for each in table.setting.agreement.parties)
    table.propose(parties=others)
    return home, party


# ---- whose keys ----------------------------------------------------------------------------------------


def test_other_keys_in_a_partys_name(table: Table, tmp_path: Path) -> None:
    """Keys of somebody else under a confirmed name are refused, with both fingerprints."""
    _, forged = usurped(table, tmp_path, "laboratory")
    code, out, err = table.approve("clinic")
    assert (code, out) == (4, "")
    honest = table.setting.agreement.party("laboratory")
    assert (
        f"party laboratory: want the confirmed keys, fingerprint {fingerprint.of(honest)}, "
        f"got {fingerprint.of(forged)}"
    ) in err
    assert "kluis: code: party_key " in err
    assert table.signatures() == []
    assert not table.homes["clinic"].has_signed(table.agreement.hash)


def test_a_fingerprint_cannot_replace_a_pin(table: Table, tmp_path: Path) -> None:
    """Not even with the fingerprint of the new keys does a name change hands."""
    _, forged = usurped(table, tmp_path, "laboratory")
    code, _, err = table.approve("clinic", f"--confirm=laboratory={fingerprint.of(forged)}")
    assert (code, "kluis: code: party_key " in err) == (4, True)
    assert table.signatures() == []


def test_only_the_sealing_key_is_other(table: Table, tmp_path: Path) -> None:
    """The honest signing key with a sealing key of the proposer's: results would be the proposer's."""
    other = Home.create(tmp_path / "other", "laboratory")
    usurped(table, tmp_path, "laboratory", sealing_key=other.sealing.public)
    assert table.approve("clinic")[0] == 4
    code, _, err = table.approve("laboratory")
    assert (code, "party laboratory: want your own keys, fingerprint " in err) == (4, True)
    assert table.signatures() == []


def test_the_first_keys_need_a_word(table: Table) -> None:
    """Unconfirmed and without a terminal, nothing is signed; with the party's own digits, once, it is."""
    clinic = table.homes["clinic"]
    clinic.pin_path("laboratory").unlink()
    code, _, err = table.approve("clinic")
    assert (code, "party laboratory: its keys are not confirmed" in err) == (6, True)
    assert "kluis: code: party_unconfirmed " in err
    printed = fingerprint.of(table.agreement.party("laboratory"))
    wrong = printed[:-1] + str((int(printed[-1]) + 1) % 10)
    code, _, err = table.approve("clinic", f"--confirm=laboratory={wrong}")
    assert (code, f"party laboratory: want fingerprint {wrong}, got {printed}" in err) == (4, True)
    assert table.signatures() == []
    code, _, err = table.approve("clinic", f"--confirm=laboratory={printed.replace('-', ' ')}")
    assert (code, "NOT CONFIRMED" in err) == (0, False)
    assert table.approve("clinic")[0] == 0
    assert table.signatures() == ["clinic"]


def test_at_a_terminal_the_digits_are_typed(table: Table) -> None:
    """A person must type the digits that the other party read out, and other digits sign nothing."""
    printed = fingerprint.of(table.agreement.party("laboratory"))
    for typed, code in (("1234-" * 8, 4), (printed, 0)):
        table.homes["clinic"].pin_path("laboratory").unlink(missing_ok=True)
        ours, theirs = pty.openpty()
        os.write(ours, f"{typed}\n".encode())
        words = ["approve", str(table.room.path), "--as", "clinic", "--yes", "--root", str(table.root)]
        done = subprocess.run(
            [Path(sys.executable).parent / "kluis", "room", *words, "--home", str(table.folder / "homes")],
            stdin=theirs,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        os.close(ours)
        os.close(theirs)
        assert done.returncode == code, done.stderr
        assert "fingerprint of laboratory, as laboratory read it to you" in done.stderr
    assert table.signatures() == ["clinic"]


def test_a_client_whose_pin_differs_releases_nothing(table: Table, tmp_path: Path) -> None:
    """``run`` and ``open`` hold to the pins as well: keys that a party no longer confirms get nothing."""
    signed = table.setting.signed()
    clinic = table.homes["clinic"]
    assert Owner(clinic, signed)
    clinic.pin_path("laboratory").unlink()
    with pytest.raises(PolicyError) as caught:
        Owner(clinic, signed)
    assert caught.value.code == "party_unconfirmed"
    other = Home.create(tmp_path / "other", "laboratory").public("The laboratory", ("owner",))
    clinic.pin("laboratory", fingerprint.keys_hash(other))
    with pytest.raises(AuthenticityError) as changed:
        Owner(clinic, signed)
    assert changed.value.code == "party_key"


def test_fingerprints_cover_name_and_both_keys(table: Table, tmp_path: Path) -> None:
    """A change to the name or either key gives other digits: 32 of them, some 106 bits."""
    party = table.agreement.party("laboratory")
    other = Home.create(tmp_path / "other", "laboratory")
    changed = [
        msgspec.structs.replace(party, id="laboratori"),
        msgspec.structs.replace(party, signing_key=other.signing.public),
        msgspec.structs.replace(party, sealing_key=other.sealing.public),
    ]
    digits = {fingerprint.of(each) for each in [party, *changed]}
    assert len(digits) == 4
    assert {len(each.replace("-", "")) for each in digits} == {32}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"id": "clinic1"}, {"id": "clinicl"}),
        ({"name": "The Clinic"}, {"name": "the  clinic"}),
        ({"name": "The clinic"}, {"name": "The \u0441linic"}),  # Cyrillic es
        ({"name": "TO"}, {"name": "\u03a4\u039f"}),  # Greek tau and omicron
        ({"name": "The clinic"}, {"name": "The cl\u0131nic"}),  # without its dot
        ({"name": "The clinic"}, {"name": "The cl\u012bnic"}),  # with a macron
        ({"id": "lab"}, {"name": "Lab"}),  # the short name of one as the name of the other
        ({"name": "A"}, {"name": "A"}),  # one object in memory, as Python keeps every single letter
    ],
)
def test_two_parties_that_look_alike(table: Table, first: dict[str, str], second: dict[str, str]) -> None:
    """Two parties whose names a reader takes for one are not in one agreement."""
    one, two = table.agreement.parties
    forged = (msgspec.structs.replace(one, **first), msgspec.structs.replace(two, **second))
    with pytest.raises(PolicyError, match="do not look alike"):
        msgspec.structs.replace(table.agreement, parties=forged, datasets=()).check()


@pytest.mark.parametrize(
    "name",
    [
        "The labor\u0251tory",  # a phonetic letter
        "The laborat\u0585ry",  # Armenian
        "The laborato\u0433y",  # Cyrillic, and not in the list of letters that look alike
        "The \u13deaboratory",  # Cherokee
        "The laborat\u101dry",  # Burmese
        "The \ua4e1\ua4ee\ua4d0",  # Lisu, all of it
        "The \u13de\u13aa\u13f4",  # Cherokee, all of it
        "The \u029f\u1d00\u0299",  # phonetic letters, all of it
    ],
)
def test_a_name_of_two_alphabets(table: Table, name: str) -> None:
    """No list has all letters that look like others, so a word of a party's name has one common alphabet."""
    one, two = table.agreement.parties
    forged = (one, msgspec.structs.replace(two, name=name))
    with pytest.raises(PolicyError) as caught:
        msgspec.structs.replace(table.agreement, parties=forged).check()
    word = name.split()[1]
    want = "want a party's name in one common alphabet a word"
    assert caught.value.message == f"agreement: {want}, got {word!a}"


@pytest.mark.parametrize(
    "name",
    [
        "Gro\u00dfe Stra\u00dfe 1",
        "R\u00f8de Kors, L'\u0153uvre",
        "\u0130stanbul \u0131l\u0131k",
        "\u0397\u03a1\u0391 \u041c\u0418\u0414 (RU)",
        "\u6771\u4eac\u306e\u30e9\u30dc\u30fc",  # three scripts and a mark of length, as Japanese has them
        "\u05d1\u05d9\u05ea \ud55c\uad6d",
    ],
)
def test_a_name_of_one_alphabet(table: Table, name: str) -> None:
    """Names as people write them are no mixture."""
    one, two = table.agreement.parties
    named = (one, msgspec.structs.replace(two, name=name))
    msgspec.structs.replace(table.agreement, parties=named).check()


@pytest.mark.parametrize("key", ["signing_key", "sealing_key"])
def test_one_key_for_two_parties(table: Table, key: str) -> None:
    """One key for signing, or for opening, of two parties is refused."""
    one, two = table.agreement.parties
    forged = (one, msgspec.structs.replace(two, **{key: getattr(one, key)}))
    with pytest.raises(PolicyError, match="want separate keys for each party"):
        msgspec.structs.replace(table.agreement, parties=forged).check()


# ---- which code ----------------------------------------------------------------------------------------


def evil(code: Code) -> Code:
    """The honest image's id on show, and the measurement of the proposer's own image to be believed."""
    return msgspec.structs.replace(
        code, measurements=(Measurement(tee="process", mrenclave=EVIL, mrsigner="22" * 32),)
    )


def test_another_measurement_is_not_signed(table: Table) -> None:
    """``approve`` refuses an agreement whose measurement is not its image's."""
    table.propose(code=evil(table.setting.agreement.code))
    code, _, err = table.approve("laboratory")
    assert code == 6
    assert f"agreement: want the measurement of image {'1' * 16}.., got {'6' * 16}.." in err
    assert table.signatures() == []


def test_another_measurement_gets_nothing(table: Table) -> None:
    """Signed by all with careless clients, it still gets no key from a client, no run, and no receipt."""
    forged = msgspec.structs.replace(table.agreement, code=evil(table.agreement.code))
    signed = signed_unchecked(forged, table.homes)
    for believe in (
        lambda: check_signed(signed),
        lambda: Owner(table.homes["clinic"], signed),
        lambda: Session(Attester(table.platform, image_id=EVIL), EVIL, signed),
    ):
        with pytest.raises(PolicyError) as caught:
            believe()
        assert caught.value.code == "image"


def test_another_measurement_is_not_appraised(table: Table) -> None:
    """Authentic evidence of the proposer's image does not meet an agreement that shows the honest one's."""
    attester = Attester(table.platform, image_id=EVIL)
    payload = receipt_payload("aa" * 32, "bb" * 32)
    with pytest.raises(PolicyError) as caught:
        check_evidence(
            attester.receipt_offer(b"n" * 32, payload),
            evil(table.agreement.code),
            purpose=Purpose.RECEIPT,
            nonce=b"n" * 32,
            payload=payload,
            collateral=table.platform.collateral(),
            now=NOW,
        )
    assert caught.value.message == f"contraindicated: image: want {'1' * 16}.., got {'6' * 16}.."


def conducted(table: Table, enclave: InProcess) -> conduct.Ended:
    """A run with both owners present."""
    signed = table.setting.signed()
    for each in signed.signatures:
        table.room.add_signature(each)
    owners = {name: conduct.LocalOwner(Owner(table.homes[name], signed), lambda: NOW) for name in table.homes}
    return conduct.conduct(enclave, table.room, owners, table.platform.collateral())


def test_a_receipt_states_what_was_measured(table: Table) -> None:
    """A receipt whose statement names another image than its own evidence measured is refused."""
    attester = Attester(table.platform)

    class Liar(InProcess):
        def begin(self, agreement: bytes) -> str:
            run = super().begin(agreement)
            self.session._image_id = EVIL
            return run

    honest = conducted(table, InProcess(attester))
    checked = check_receipt(honest.receipt, table.agreement.hash)
    assert checked.verdict.measured == checked.statement.image_id == attester.image_id
    lied = conducted(table, Liar(attester))
    with pytest.raises(PolicyError) as caught:
        check_receipt(lied.receipt, table.agreement.hash)
    assert caught.value.code == "receipt"


def test_a_folder_of_ones_own_is_no_receipt(table: Table, tmp_path: Path) -> None:
    """A whole room that the attacker made, receipt and all, is not checked against its own word."""
    ended = conducted(table, InProcess(Attester(table.platform)))
    code, out, err = table("receipt")
    assert (code, out) == (2, "")
    assert "want to know which agreement it must be of" in err
    assert table("receipt", "--as", "clinic")[0] == 0
    shutil.rmtree(table.homes["clinic"].path / "agreed")
    code, _, err = table("receipt", "--as", "clinic")
    assert (code, "clinic did not sign it, by its own record" in err) == (6, True)
    assert ended.folder.is_dir()


# ---- which root ----------------------------------------------------------------------------------------


def test_a_root_of_the_proposers(table: Table) -> None:
    """A root that this party does not know is refused by its key's digest, until its file is named once."""
    theirs = Platform(samples.NOW)
    table.propose(code=samples.code(root=theirs.root()))
    code, _, err = table.approve("laboratory")
    assert code == 6
    assert "kluis: code: root_unknown " in err
    assert "NOT KNOWN TO YOU" in err
    assert table.signatures() == []
    table.propose()
    assert table.approve("laboratory")[0] == 0
    code, _, err = table.approve("laboratory", root=False)
    assert (code, "accepted by you before" in err) == (0, True)


def test_an_accepted_roots_key_at_another_level(table: Table) -> None:
    """An operator that has the key of an accepted root signs another certificate of it, of a higher level."""
    assert table.approve("laboratory")[0] == 0
    key = table.platform.authority.keys.root
    root = issuing.issue(ROOT_CN, key.public_key(), None, key, samples.NOW, path_length=1, unit="vm")
    code = samples.code(root=root.public_bytes(Encoding.PEM).decode())
    for given in (False, True):  # nor does the file of the accepted one name the other
        table.propose(code=msgspec.structs.replace(code, protection=("vm",)))
        exit_code, _, err = table.approve("laboratory", root=given)
        assert exit_code == 6
        assert "NOT KNOWN TO YOU" in err
        assert "level vm: is not known to laboratory" in err
        assert "kluis: code: root_unknown " in err
    assert table.signatures() == []


def test_collateral_of_any_age(table: Table) -> None:
    """A proposer's own client does not write that old statements about a platform are as good as new ones."""
    code = msgspec.structs.replace(table.agreement.code, fresh_seconds=10**15)
    table.propose(code=code)
    exit_code, out, err = table.approve("clinic")
    assert (exit_code, out) == (3, "")
    assert "agreement.json: expected `int` <= 315360000 - at `$.code.fresh_seconds`" in err
    assert table.signatures() == []


# ---- what is shown -------------------------------------------------------------------------------------


def unfolded(text: str) -> str:
    """A text whose lines that were too wide are whole again."""
    return re.sub(r"\n *\\ ", "", text)


def maximal(table: Table) -> Agreement:
    """An agreement with something in every field."""
    code = msgspec.structs.replace(
        table.agreement.code,
        protection=("process", "process-user"),
        lacks=("memory", "secret-memory"),
        counter=("unwitnessed", "witnessed"),
        roots=(*table.agreement.code.roots, Platform(samples.NOW).root()),
        svn_min=17,
        product_id=4711,
    )
    return msgspec.structs.replace(
        table.agreement,
        code=code,
        parent="ab" * 32,
        title='A "title", with \\ and Umlaut \u00e4',
        purpose="word " * 700,
    )


def test_every_leaf_is_shown(table: Table) -> None:
    """Each leaf of an agreement, and no fixed list of them, is in the text that its signer reads."""
    agreement = maximal(table)
    text = unfolded(explain(agreement, Trust(table.homes["clinic"])))
    found = 0
    for path, name, value in shown.leaves(agreement):
        if isinstance(value, bytes):
            want = f"{name} = {len(value)} bytes, sha256 {sha256(value).hex()}"
        elif isinstance(value, str) and name in shown.BLOCKS:
            for line in value.splitlines():
                assert f"| {line}\n" in text, path
            want = name
        elif isinstance(value, str):
            # In a list, after the list's name or a comma; by itself, after its own name.
            plain = [value, shown.quote(value)]
            starts = ["= ", ", "] if path.endswith("]") else [f"{name} = "]
            want = next((start + each for start in starts for each in plain if start + each in text), value)
            assert want != value, path
        elif isinstance(value, bool | None):
            want = f"{name} = {'null' if value is None else str(value).lower()}"
        elif isinstance(value, datetime.datetime):
            want = f"{name} = {value:%Y-%m-%dT%H:%M:%SZ}"
        else:
            want = f"{name} = {value}"
        assert want in text, path
        found += 1
    assert found >= 110
    assert max(map(len, explain(agreement).splitlines())) <= 80
    assert f"  hash     {agreement.hash}" in explain(agreement).splitlines()  # which --agreement takes


def test_a_field_that_is_added_is_shown() -> None:
    """A document that nobody thought of is listed like any other: the walk knows no fields."""

    class Later(samples.Terms, frozen=True):
        added: int = 12345

    terms = Later(privacy_unit="id", k_min=5, rows_per_person=1, columns=(), expires=samples.LATER)
    assert "  added = 12345" in shown.listing(terms)
    with pytest.raises(TypeError):
        list(shown.leaves({"a": 1}))


@pytest.mark.parametrize(
    "text",
    [
        "a\u202eb",
        "a\u2066b",
        "a\u200bb",
        "a\u00adb",
        "a\x1b[2Kb",
        "a\rb",
        "a\nb",
        "a\tb",
        "a\u2028b",
        "a\u00a0b",
        "a\u3164b",
        "a\u2800b",
        "a\u2d7fb",
        "a\U00011a47b",
        "a\U00013441b",
        "a\U00016fe4b",
        "a\ufe0fb",
        "a\U000e0041b",
        "e\u0301",
        "a" + "\u0327\u0321\u0322\u0326",
        "a" + " " * 65 + "b",
        "a\ue000b",
    ],
)
def test_what_cannot_be_shown_is_not_signed(table: Table, text: str) -> None:
    """Characters that a reader does not see as they are, in any text of one line, are refused at signing."""
    agreement = msgspec.structs.replace(table.agreement, title=text)
    with pytest.raises(PolicyError) as caught:
        sign(agreement, "clinic", table.homes["clinic"].signing)
    assert caught.value.code == "unshowable"
    assert caught.value.message.startswith("agreement.title: want ")
    table.propose(title=text)
    assert table.approve("clinic")[0] == 6
    assert table.signatures() == []


@pytest.mark.parametrize(
    "hidden",
    ["\u202e", "\u05d0", "\x1b[8m", "\r", "\n" * 6, " " * 65, "x" * 1001, "\t" * 9],
)
def test_a_query_hides_nothing(table: Table, hidden: str) -> None:
    """A query with text that runs backwards, is overwritten, or is pushed out of view is refused."""
    query = msgspec.structs.replace(samples.QUERY, query=f"SELECT 1 -- {hidden}")
    with pytest.raises(PolicyError) as caught:
        msgspec.structs.replace(table.agreement, analyses=(query,)).check()
    assert caught.value.message.startswith("agreement.analyses[1].query: want ")


def test_other_scripts_are_signed(table: Table) -> None:
    """Names and titles in the world's scripts stay possible."""
    for title in (
        "Z\u00fcrich",
        "\u4e34\u5e8a\u7814\u7a76",
        "\u05de\u05d7\u05e7\u05e8",
        "\u0939\u093f\u0928\u094d\u0926\u0940",
    ):
        msgspec.structs.replace(table.agreement, title=title).check()


# ---- which agreement -----------------------------------------------------------------------------------


def test_what_was_shown_is_what_is_signed(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another agreement that takes the place of the one on the screen gets no signature."""
    read = table.agreement

    def swapped(*_: object, **__: object) -> bool:
        table.room.folder.replace("agreement.json", encode(msgspec.structs.replace(read, k_min=3)))
        return True

    monkeypatch.setattr(typer, "confirm", swapped)
    assert table("approve", "--as", "clinic", "--root", table.root)[0] == 0
    assert table.homes["clinic"].has_signed(read.hash)
    assert len(table.homes["clinic"].agreements(read.room)) == 1
    with pytest.raises(KluisError):
        check_signed(table.room.signed_agreement())


def test_another_than_the_one_meant(table: Table) -> None:
    """With its name given, another agreement in the folder is refused."""
    meant = table.agreement.hash
    table.propose(k_min=3)
    code, _, err = table.approve("clinic", "--agreement", meant)
    assert (code, f"agreement: want {meant[:16]}.., got {table.agreement.hash[:16]}.." in err) == (6, True)
    assert table.signatures() == []


def test_an_earlier_agreement_put_back(table: Table) -> None:
    """After a stricter agreement was signed, the looser one before it gets no key, signatures and all."""
    loose = table.setting.signed()
    strict = msgspec.structs.replace(table.agreement, k_min=50)
    table.homes["clinic"].agree(strict)
    with pytest.raises(PolicyError) as caught:
        Owner(table.homes["clinic"], loose)
    assert caught.value.code == "superseded"
    assert caught.value.message == (
        f"agreement {table.agreement.hash[:16]}: clinic signed {strict.hash[:16]} after it"
    )
    assert Owner(table.homes["laboratory"], loose)


def test_a_parent_that_nobody_signed(table: Table) -> None:
    """An agreement that claims to amend one which its signer never signed is refused."""
    table.propose(parent="ab" * 32)
    code, _, err = table.approve("clinic")
    assert (code, "agreement: amends abababababababab.., which clinic did not sign" in err) == (6, True)


def test_stop_is_of_what_was_signed(table: Table) -> None:
    """With another agreement in its place, what this party signed is stopped, and nothing else."""
    assert table.approve("laboratory")[0] == 0
    signed = table.agreement
    other = table.propose(title="Another")
    assert table("approve", "--as", "laboratory", "--stop")[0] == 0
    laboratory = table.homes["laboratory"]
    assert (laboratory.has_withdrawn(signed.hash), laboratory.has_withdrawn(other.hash)) == (True, False)


def test_a_stop_in_a_folder_with_another_rooms_id(table: Table) -> None:
    """Of a party that did not join there, it stops what that room has, and lists what is still in force."""
    assert table.approve("laboratory")[0] == 0
    laboratory, meant = table.homes["laboratory"], table.agreement
    laboratory.place_paths(table.room.path)[0].unlink()
    elsewhere = msgspec.structs.replace(meant, room="ab" * 32, title="Elsewhere")
    laboratory.agree(elsewhere)
    path = table.room.path / "room.json"
    path.write_bytes(path.read_bytes().replace(meant.room.encode(), elsewhere.room.encode()))
    code, out, _ = table("approve", "--as", "laboratory", "--stop")
    assert (code, out) == (
        0,
        f'laboratory stopped {elsewhere.hash}\n  title    "Elsewhere"\n'
        f'still in force: {meant.hash}\n  title    "{meant.title}"\n',
    )
    code, out, _ = table("approve", "--as", "laboratory", "--stop", "--agreement", meant.hash)
    assert (code, "still in force" in out) == (0, False)
    assert laboratory.has_withdrawn(meant.hash)


def test_a_stopped_agreement_put_back(table: Table) -> None:
    """What a party stopped is not signed again: it would replace the one in force, and nothing would run."""
    assert table.approve("laboratory")[0] == 0
    stopped = table.agreement
    assert table("approve", "--as", "laboratory", "--stop")[0] == 0
    current = table.propose(title="Another")
    assert table.approve("laboratory")[0] == 0
    table.room.propose(stopped)
    code, out, err = table.approve("laboratory")
    assert (code, out) == (6, "")
    assert f"agreement {stopped.hash[:16]}: laboratory stopped it" in err
    assert table.homes["laboratory"].current(samples.ROOM) == current.hash


@pytest.mark.parametrize("spoilt", ["agreement", "room"])
def test_stop_without_a_readable_folder(table: Table, spoilt: str) -> None:
    """A folder without a readable agreement, or that is no room at all, keeps nobody from stopping."""
    assert table.approve("laboratory")[0] == 0
    signed = table.agreement
    words = []
    if spoilt == "agreement":
        (table.room.path / "agreement.json").write_bytes(b"{")
    else:
        shutil.rmtree(table.room.path)
        table.homes["laboratory"].place_paths(table.room.path)[0].unlink()
        code, _, err = table("approve", "--as", "laboratory", "--stop")
        assert (code, f"--agreement HASH, of those that it signed: {signed.hash} ('Sample')" in err) == (
            6,
            True,
        )
        words = ["--agreement", signed.hash]
    assert table("approve", "--as", "laboratory", "--stop", *words)[0] == 0
    assert table.homes["laboratory"].has_withdrawn(signed.hash)


@pytest.mark.parametrize("planted", ["nothing signed", "an earlier agreement's", "in another name"])
def test_a_signature_that_nobody_gave(table: Table, planted: str) -> None:
    """Who signs is not told that another party signed because the folder has a file of that name."""
    name = "laboratory"
    given = {
        "nothing signed": Signature(party=name, signature=bytes(64)),
        "an earlier agreement's": sign(table.agreement, name, table.homes[name].signing),
        "in another name": Signature(
            party=name, signature=sign(table.agreement, "clinic", table.homes["clinic"].signing).signature
        ),
    }[planted]
    if planted == "an earlier agreement's":
        table.propose(title="Another")
    table.room.add_signature(given)
    code, out, _ = table.approve("clinic")
    assert (code, out) == (0, f"clinic signed {table.agreement.hash}; still to sign: {name}\n")
    assert table.approve(name)[1] == f"{name} signed {table.agreement.hash}; all signed\n"


@pytest.mark.parametrize("command", ["show", "approve"])
def test_a_query_that_is_logged(table: Table, command: str, caplog: pytest.LogCaptureFixture) -> None:
    """The parser of queries logs nothing: a proposal's line would be printed as an error or hint of ours."""
    lines = "WITH a AS (DROP x\nkluis: hint: kluis room fingerprint is out of order: run ...\n) SELECT 1"
    (analysis,) = (each for each in table.agreement.analyses if isinstance(each, SqlAnalysis))
    table.propose(analyses=(msgspec.structs.replace(analysis, query=lines),))
    code, out, err = table(command, "--as", "clinic", "--root", table.root)
    assert (code, out, caplog.records) == (6, "", [])
    assert "out of order" not in err
