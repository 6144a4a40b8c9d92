"""The console's pages: what each shows, and that a signature takes the path of the command."""

from __future__ import annotations

import hashlib
import tomllib
from importlib import resources
from pathlib import Path

import msgspec
import pytest

from kluis.appraisal import dumps_machine
from kluis.appraisal.policy.wants import ANY
from kluis.cleanroom.agreement import fingerprint
from kluis.cleanroom.agreement.agreement import Signature
from kluis.cleanroom.records.home import Home
from kluis.console.state import Console
from kluis.errors import UsageError
from tests.cleanroom import samples
from tests.cleanroom.running.test_machine import measured
from tests.console.site import Case, Site


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("console"))


def test_a_link_gives_a_cookie_that_opens_every_page(case: Case) -> None:
    """The address with the token sets a strict cookie of its own name; with it, every page is shown."""
    site = Site(case.room.path, parties=case.folder / "homes")
    answer = site.send("GET", site.access.url.removeprefix(site.access.origin))
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("kluis-console-8417=")
    assert cookie.endswith("; HttpOnly; Path=/; SameSite=strict")
    site.open()
    room = f"/rooms/{case.room.file.room}"
    for path, words in {
        "/": "What runs here",
        "/evidence": "Judge evidence",
        "/rooms": "signed by all parties",
        room: "What each party allows",
        f"{room}/receipts": "No run has ended in this room.",
        f"{room}/events": "agreement.signed",
    }.items():
        page = site.get(path)
        assert (page.status_code, words in page.text) == (200, True), page.text
        assert "<script>" not in page.text
        assert "style=" not in page.text


def test_a_part_for_htmx_has_no_frame(case: Case) -> None:
    """A partial request gets the main part only, and caches keep both apart."""
    site = case.site()
    part, page = site.get("/rooms", **{"HX-Request": "true"}), site.get("/rooms")
    assert "<html" not in part.text
    assert "<html" in page.text
    assert part.headers["vary"] == "HX-Request"


def test_an_agreement_is_a_contract(case: Case) -> None:
    """The page names each party with its fingerprint, each column with its uses, and each query."""
    page = case.site().get(f"/rooms/{case.room.file.room}").text
    for party in case.agreement.parties:
        assert fingerprint.of(party) in page
    assert "aggregate, filter, group, model" in page
    assert "count(DISTINCT p.id)" in page
    assert case.agreement.hash in page
    assert "clinic signed this agreement, by its own record." in page


def test_what_a_signer_must_not_miss(tmp_path: Path) -> None:
    """The page states that the machine runs any guest, and which data sets several queries read."""
    case = Case(tmp_path)
    machine = dumps_machine(measured(ANY, any_guest=True))
    code = msgspec.structs.replace(case.agreement.code, machine=machine)
    queries = tuple(msgspec.structs.replace(samples.QUERY, id=name) for name in ("one", "two"))
    case.propose(case.changed(code=code, analyses=queries))
    page = case.site().get(f"/rooms/{case.room.file.room}").text
    assert "<dt>Machine</dt><dd>around the code, WITH ANY GUEST: " in page
    assert "of one person is not limited: labs by 2, people by 2.</p>" in page


def test_a_signature_is_that_of_the_command(tmp_path: Path) -> None:
    """A party signs in the page what it read: its record, the room and the log have it."""
    case = Case(tmp_path)
    proposed = case.propose(case.changed(title="Second"))
    site, room = case.site(), f"/rooms/{case.room.file.room}"
    assert "Sign as clinic" in site.get(room).text
    fields = {"party": "clinic", "agreement": proposed.hash, "read": "yes"}
    answer = site.post(f"{room}/sign", fields)
    assert (answer.status_code, answer.headers["location"]) == (303, room)
    assert case.homes["clinic"].has_signed(proposed.hash)
    assert [each.party for each in case.room.signed_agreement().signatures] == ["clinic"]
    assert site.get(f"{room}/events").text.count("agreement.signed") == 2
    assert "waits for signatures" in site.get("/rooms").text
    case.room.add_signature(Signature(party="laboratory", signature=bytes(64)))  # which it did not give
    names = "clinic, with the keys that this agreement names</dd>\n<dt>Still to sign</dt><dd>laboratory</dd>"
    assert f"<dt>Signed by</dt><dd>{names}" in site.get(room).text


def test_unconfirmed_parties_need_their_fingerprints(tmp_path: Path) -> None:
    """A party whose keys were never confirmed has a field for its fingerprint; another one is refused."""
    case = Case(tmp_path)
    pin = case.homes["clinic"].pin_path("laboratory")
    pin.unlink()
    proposed = case.propose(case.changed(title="Second"))
    site, room = case.site(), f"/rooms/{case.room.file.room}"
    assert 'name="confirm.laboratory"' in site.get(room).text
    fields = {"party": "clinic", "agreement": proposed.hash, "read": "yes"}
    refused = site.post(f"{room}/sign", fields)
    assert (refused.status_code, "its keys are not confirmed" in refused.text) == (403, True)
    wrong = site.post(f"{room}/sign", {**fields, "confirm.laboratory": "0000-" * 7 + "0000"})
    assert (wrong.status_code, "sign nothing" in wrong.text) == (403, True)
    assert not pin.exists()
    right = fingerprint.of(proposed.party("laboratory"))
    assert site.post(f"{room}/sign", {**fields, "confirm.laboratory": right}).status_code == 303
    assert case.homes["clinic"].has_signed(proposed.hash)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"agreement": "00" * 32}, "agreement: want 0000000000000000.., got"),
        ({"agreement": ""}, "agreement: want .., got"),
        ({"party": "nobody"}, "want a party with keys on this machine"),
        ({"read": ""}, "want your confirmation that you read the agreement"),
    ],
)
def test_what_is_not_signed(case: Case, changes: dict[str, str], words: str) -> None:
    """Nothing is signed for another party, without a confirmation, or if the proposal was replaced."""
    proposed = case.propose(case.changed(title="Third"))
    fields = {"party": "clinic", "agreement": proposed.hash, "read": "yes", **changes}
    answer = case.site().post(f"/rooms/{case.room.file.room}/sign", fields)
    assert (400 <= answer.status_code < 500, words in answer.text) == (True, True), answer.text
    assert not case.homes["clinic"].has_signed(proposed.hash)
    case.propose(case.agreement)


def test_two_folders_of_one_room(case: Case, tmp_path: Path) -> None:
    """A room is named by its id, so a copy of its folder is refused."""
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "room.json").write_bytes((case.room.path / "room.json").read_bytes())
    site = Site(parties=case.folder)
    with pytest.raises(UsageError, match="want each room once"):
        Console(site.access, [case.room.path, tmp_path / "copy"], now=lambda: samples.NOW)


def test_keys_that_others_can_read_are_not_used(tmp_path: Path) -> None:
    """A party whose folder is open to others cannot sign in the console."""
    case = Case(tmp_path)
    home: Home = case.homes["clinic"]
    home.path.chmod(0o755)
    assert "As clinic" not in case.site().get(f"/rooms/{case.room.file.room}").text


def test_files_of_others_are_the_published_ones() -> None:
    """Each script that is shipped is listed with its package, version, licence and digest."""
    folder = resources.files("kluis.console") / "static"
    listed = tomllib.loads((folder / "vendored.toml").read_text())["file"]
    assert {each["name"] for each in listed} == {
        each.name for each in folder.iterdir() if each.name.endswith(".js")
    }
    for each in listed:
        assert hashlib.sha256((folder / each["name"]).read_bytes()).hexdigest() == each["sha256"]
        assert each["licence"] == "0BSD"
