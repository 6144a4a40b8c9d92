"""The console's receipts: what a run proves, by the record of a party on this machine."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import msgspec
import pytest

from kluis.cleanroom.agreement.agreement import check_signed
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.running import conduct
from kluis.cleanroom.running.release import Owner
from tests.cleanroom import samples
from tests.cleanroom.inprocess import InProcess
from tests.cleanroom.platform import Attester
from tests.console.site import Case, Site

NOW = samples.NOW + datetime.timedelta(hours=1)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A room in which one run has ended."""
    case = Case(tmp_path_factory.mktemp("receipts"))
    # The sample's data is sealed under the sample's own room.
    file = msgspec.structs.replace(case.room.file, room=samples.ROOM)
    case.room.folder.replace("room.json", msgspec.json.encode(file, order="sorted"))
    case.room.file = file
    for home in case.homes.values():
        home.keep_place(case.room.path, file.room, file.title, file.purpose)
    case.room.propose(case.setting.agreement)
    for signature in case.setting.signed().signatures:
        case.room.add_signature(signature)
    for each in case.setting.agreement.datasets:
        case.room.add_dataset(case.homes[each.owner], each, (case.setting.files[each.id],))
    signed = case.room.signed_agreement()
    check_signed(signed)
    owners: dict[str, conduct.Participant] = {
        name: conduct.LocalOwner(Owner(home, signed, ()), lambda: NOW) for name, home in case.homes.items()
    }
    enclave = InProcess(Attester(case.platform))
    conduct.conduct(enclave, case.room, owners, case.platform.collateral())
    return case


def test_a_receipt_is_checked(case: Case) -> None:
    """The page has a row for each check, the level, and what it does not keep out."""
    page = case.site().get(f"/rooms/{samples.ROOM}/receipts").text
    assert f"against the record of {next(iter(sorted(case.homes)))}." in page
    for words in ("✓ agreement", "✓ code", "✓ evidence", "✓ consent", "✓ input", "✓ result", "✓ output"):
        assert words in page
    assert "groups of fewer than 5 persons are not shown" in page
    assert "Protection level process, which does not keep out:" in page


def test_no_party_of_this_machine(case: Case, tmp_path: Path) -> None:
    """Without a party that signed, by its own record, no receipt is called checked: the folder proves nothing
    by itself.
    """
    for _ in range(2):
        site = Site(case.room.path, parties=tmp_path).open()
        page = site.get(f"/rooms/{samples.ROOM}/receipts").text
        assert "no party on this machine signed its agreement" in page
        assert "✓ agreement" not in page
        if not (tmp_path / "clinic").exists():  # then one with keys, under the name of a party
            Home.create(tmp_path / "clinic", "clinic")


def test_a_receipt_under_another_name(case: Case, tmp_path: Path) -> None:
    """A receipt that was copied to another run, or changed, is an error in its place."""
    copy = tmp_path / "room"
    shutil.copytree(case.room.path, copy)
    (run,) = case.room.runs()
    (copy / "runs" / run).rename(copy / "runs" / ("0" * 64))
    page = Site(copy, parties=case.folder / "homes").open().get(f"/rooms/{samples.ROOM}/receipts").text
    assert "receipt: want run 0000000000000000.." in page
    assert "✓ agreement" not in page
    place = copy / "runs" / ("0" * 64) / "receipt.json"
    place.write_bytes(place.read_bytes().replace(b"A", b"B", 1))
    page = Site(copy, parties=case.folder / "homes").open().get(f"/rooms/{samples.ROOM}/receipts").text
    assert "✓ agreement" not in page
