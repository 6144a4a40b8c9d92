"""No command of one party's client replaces what another party, or its own user, has in a folder."""

from __future__ import annotations

import datetime
from pathlib import Path

import msgspec
import polars as pl
import pytest

from kluis.cleanroom.records.home import Home
from kluis.cleanroom.running import conduct
from kluis.cleanroom.running.release import Owner
from tests.cleanroom import samples
from tests.cleanroom.inprocess import InProcess
from tests.cleanroom.platform import Attester
from tests.cleanroom.tables import Table

TERMS = 'privacy_unit = "id"\nk_min = 5\nrows_per_person = 1\nexpires_days = 30\n[allow]\nid = ["join"]\n'


@pytest.fixture
def table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Table:
    return Table(tmp_path, capsys)


def test_a_data_set_with_the_name_of_another_owners(table: Table) -> None:
    """An owner that seals under a name that is taken is refused: the other's sealed file has no copy."""
    table.room.join(table.homes["laboratory"], table.agreement.party("laboratory"))
    before = {each.name: each.read_bytes() for each in (table.room.path / "datasets").iterdir()}
    data, terms = table.folder / "own.parquet", table.folder / "terms.toml"
    pl.DataFrame({"id": range(20)}).write_parquet(data)
    terms.write_text(TERMS)
    table("seal", data, "--as", "laboratory", "--dataset", "people", "--terms", terms)
    after = {each.name: each.read_bytes() for each in (table.room.path / "datasets").iterdir()}
    assert {name: after.get(name) for name in before} == before
    assert table.homes["laboratory"].next_version(table.room.file.room, "people") == 1  # none was used up


def test_a_party_with_the_short_name_of_another(table: Table) -> None:
    """A second party of a name that has joined is refused: the file of the first is its only public one."""
    before = (table.room.path / "parties" / "clinic.json").read_bytes()
    other = Home.create(table.folder / "elsewhere" / "clinic", "clinic")
    table("init", "--as", "clinic", "--home", other.path.parent)
    assert (table.room.path / "parties" / "clinic.json").read_bytes() == before


@pytest.mark.parametrize("hidden", [False, True])
def test_a_result_with_the_name_of_a_file_of_the_recipients(table: Table, hidden: bool) -> None:
    """The proposer names an analysis as the recipient's data; ``open -o`` there leaves that as it is."""
    query = msgspec.structs.replace(samples.QUERY, id="people", max_rows=1 if hidden else 10)
    table.propose(analyses=(query,))
    assert table.approve("clinic")[0] == table.approve("laboratory")[0] == 0
    now = samples.NOW + datetime.timedelta(hours=1)
    signed = table.room.signed_agreement()
    owners = {
        name: conduct.LocalOwner(Owner(home, signed), lambda: now) for name, home in table.homes.items()
    }
    conduct.conduct(InProcess(Attester(table.platform)), table.room, owners, table.platform.collateral())
    mine = table.folder / "data"
    mine.mkdir()
    (mine / "people.parquet").write_bytes(b"the only copy")
    table("open", "--as", "clinic", "-o", mine)
    assert (mine / "people.parquet").read_bytes() == b"the only copy"
