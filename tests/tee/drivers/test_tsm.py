"""configfs-tsm through the kernel's own calls, over FUSE: what comes out is what the verifiers read."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import UnavailableError
from kluis.evidence import SnpEndorsements, TrustAnchors, verify
from kluis.formats import x509
from kluis.formats.sgx import quote as dcap
from kluis.formats.snp import table
from kluis.formats.snp.report import Report
from kluis.tee.drivers.tsm import Tsm
from tests import vectors
from tests.evidence.amd.forge import Forge
from tests.evidence.intel.forge import TdxForge
from tests.tee.drivers import fuse
from tests.tee.drivers.devices import ConfigfsTsm

DATA = bytes(range(32)) + bytes(32)
pytestmark = pytest.mark.skipif(bool(fuse.MISSING), reason="no FUSE: apt-get install fuse3")


@contextmanager
def configfs(tmp_path: Path, tree: ConfigfsTsm) -> Iterator[Path]:
    with fuse.mounted(tmp_path / "report", tree) as root:
        yield root
    assert tree.folders == {}, "a folder is left"


def snp(forge: Forge, **changes: Any) -> ConfigfsTsm:
    """A guest whose host sends its certificates."""
    good = forge.endorsements()
    held = table.build({table.VCEK: good.vek or b"", table.ASK: good.ask or b"", table.ARK: good.ark or b""})
    report = lambda data, level: forge.report(report_data=data, vmpl=level)  # noqa: E731
    return ConfigfsTsm("sev_guest", report, **{"table": held.encode() + bytes(100), **changes})


def test_snp(tmp_path: Path) -> None:
    """Report and certificates verify as they come, and the report data is ours."""
    forge = Forge()
    with configfs(tmp_path, snp(forge)) as root:
        driver = Tsm(root)
        assert driver.available() is None
        assert driver.kind() == "snp"
        parts = driver.endorse(DATA)
    assert set(parts) == {"report", "certificates"}
    vek, ask, ark = x509.split_pem(parts["certificates"], "certificates")

    claims = forge.verify(parts["report"], SnpEndorsements(vek=vek, ask=ask, ark=ark))

    assert claims.report_data == DATA
    assert driver.seal_secret() is None


@pytest.mark.parametrize(("floor", "level", "want"), [(0, None, 0), (2, None, 2), (1, 3, 3)])
def test_privilege_level(tmp_path: Path, floor: int, level: int | None, want: int) -> None:
    """The report is of the requested level, by default of the most privileged that the kernel permits."""
    with configfs(tmp_path, snp(Forge(), floor=floor)) as root:
        parts = Tsm(root, privilege_level=level).endorse(DATA)
    assert int.from_bytes(parts["report"][0x30:0x34], "little") == want


def test_level_below_the_floor(tmp_path: Path) -> None:
    """A level that the kernel does not permit is refused before anything is written."""
    with (
        configfs(tmp_path, snp(Forge(), floor=2)) as root,
        pytest.raises(UnavailableError, match=r"privilege level: want 2\.\.3, got 0") as refused,
    ):
        Tsm(root, privilege_level=0).endorse(DATA)
    assert refused.value.exit_code == 7


def test_level_is_the_reports(tmp_path: Path) -> None:
    """A report of another level than the requested one is refused."""
    forge = Forge()
    tree = snp(forge)
    tree.report = lambda data, level: forge.report(report_data=data, vmpl=3)
    with (
        configfs(tmp_path, tree) as root,
        pytest.raises(UnavailableError, match="privilege level: want 0, got 3"),
    ):
        Tsm(root).endorse(DATA)


def test_tdx(tmp_path: Path) -> None:
    """A TD quote verifies as it comes."""
    forge = TdxForge()
    tree = ConfigfsTsm("tdx_guest", lambda data, _: forge.quote(forge.td(report_data=data)))
    with configfs(tmp_path, tree) as root:
        driver = Tsm(root)
        assert driver.kind() == "tdx"
        parts = driver.endorse(DATA)

    found = verify(parts["quote"], anchors=forge.anchors, collateral=forge.collateral(), now=forge.now)
    assert found.value.report_data == DATA


def test_raced(tmp_path: Path) -> None:
    """Another writer is seen by the generation, and the report is requested again."""
    tree = snp(Forge())
    tree.raced = 3
    with configfs(tmp_path, tree) as root:
        parts = Tsm(root).endorse(DATA)
    assert len(parts["report"]) == Report.SIZE
    assert parts["report"][0x50:0x90] == DATA


def test_always_raced(tmp_path: Path) -> None:
    """It gives up, and states that another program writes."""
    tree = snp(Forge())
    tree.raced = 1 << 30
    with (
        configfs(tmp_path, tree) as root,
        pytest.raises(UnavailableError, match="another program wrote into each of 16 reports") as refused,
    ):
        Tsm(root).endorse(DATA)
    assert refused.value.code == "driver_raced"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "want 1184 bytes, got 0"),
        (1183, "want 1184 bytes, got 1183"),
        (1185, "want 1184 bytes, got 1185"),
        (1 << 20, "outblob: is larger than"),
    ],
)
def test_report_of_another_size(tmp_path: Path, size: int, message: str) -> None:
    """A blob of a wrong size is refused."""
    forge = Forge()
    tree = snp(forge)
    tree.report = lambda data, level: forge.report(report_data=data).ljust(size, b"\0")[:size]
    with configfs(tmp_path, tree) as root, pytest.raises(UnavailableError, match=message) as refused:
        Tsm(root).endorse(DATA)
    assert refused.value.code == "driver_answer"


def test_report_of_other_data(tmp_path: Path) -> None:
    """A report over other data, such as an earlier one, is refused."""
    forge = Forge()
    tree = snp(forge)
    tree.report = lambda data, level: forge.report(report_data=b"o" * 64)
    with configfs(tmp_path, tree) as root, pytest.raises(UnavailableError, match="report data: want 0001"):
        Tsm(root).endorse(DATA)


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(
            table.VCEK + (24).to_bytes(4, "little") + (1 << 30).to_bytes(4, "little") + bytes(24), id="long"
        ),
        pytest.param(
            table.VCEK + (0).to_bytes(4, "little") + (24).to_bytes(4, "little") + bytes(24), id="overlap"
        ),
        pytest.param(b"\1" * 100, id="no end"),
        pytest.param(
            table.build({table.VCEK: b"x", table.ASK: b"y", table.ARK: b"z"}).encode(), id="no X.509"
        ),
    ],
)
def test_table_that_lies(tmp_path: Path, lie: bytes) -> None:
    """A certificate table that does not describe itself is refused, with an error of this machine."""
    with (
        configfs(tmp_path, snp(Forge(), table=lie)) as root,
        pytest.raises(UnavailableError, match="tsm: ") as refused,
    ):
        Tsm(root).endorse(DATA)
    assert refused.value.code == "driver_answer"
    assert refused.value.exit_code == 7


@pytest.mark.parametrize("given", [b"", bytes(4096), table.build({table.ASK: b"only"}).encode()])
def test_without_certificates(tmp_path: Path, given: bytes) -> None:
    """A host that sends none, or not all, leaves them out."""
    with configfs(tmp_path, snp(Forge(), table=given)) as root:
        assert set(Tsm(root).endorse(DATA)) == {"report"}


@pytest.mark.parametrize("name", ["inblob", "outblob", "auxblob", "generation", "provider", "privlevel"])
@pytest.mark.parametrize("fault", [errno.EIO, errno.EBUSY, errno.ETIMEDOUT])
def test_faults(tmp_path: Path, name: str, fault: int) -> None:
    """What the kernel refuses is an error of ours that names the file; the folder is removed."""
    tree = snp(Forge())
    tree.faults[name] = fault
    with (
        configfs(tmp_path, tree) as root,
        pytest.raises(UnavailableError, match=f"tsm: {name}: ") as refused,
    ):
        Tsm(root).endorse(DATA)
    assert refused.value.exit_code == 7
    assert refused.value.hint


def test_absent(tmp_path: Path) -> None:
    """Without configfs, or without a provider, the reason and the commands are stated."""
    driver = Tsm(tmp_path / "none")
    assert str(driver.available()).startswith("tsm: ")
    with pytest.raises(UnavailableError) as refused:
        driver.endorse(DATA)
    assert "modprobe sev-guest" in str(refused.value.hint)
    tree = snp(Forge())
    tree.faults["mkdir"] = errno.ENXIO
    with configfs(tmp_path, tree) as root:
        assert "No such device or address" in str(Tsm(root).available())


def test_another_provider(tmp_path: Path) -> None:
    """Another TEE's provider is named."""
    tree = ConfigfsTsm("arm_cca_guest", lambda data, _: data)
    with configfs(tmp_path, tree) as root:
        assert "got 'arm_cca_guest'" in str(Tsm(root).available())


RECORDED = [
    one
    for one in vectors.found("snp")
    if one.outcome == "valid"
    and "report" in one
    and {"endorsement_key", "ask", "ark"} <= set(one.meta["files"])
]


@pytest.mark.skipif(not RECORDED, reason=vectors.MISSING)
@pytest.mark.parametrize("vector", RECORDED, ids=lambda one: str(one.name))
def test_recorded(tmp_path: Path, vector: vectors.Vector) -> None:
    """A report of real hardware, replayed by the kernel's interface, verifies under AMD's roots."""
    report = vector.part("report")[: Report.SIZE]
    level = min(int.from_bytes(report[0x30:0x34], "little"), 4)
    if level > 3:
        pytest.skip("a report that the host requested")
    name = table.VLEK if vector.expected["endorsement"] == "VLEK" else table.VCEK
    roles = {name: "endorsement_key", table.ASK: "ask", table.ARK: "ark"}
    held = table.build({guid: _der(vector.part(role)) for guid, role in roles.items()})
    tree = ConfigfsTsm("sev_guest", lambda data, _: report, table=held.encode())
    with configfs(tmp_path, tree) as root:
        parts = Tsm(root, privilege_level=level).endorse(report[0x50:0x90])
    vek, ask, ark = x509.split_pem(parts["certificates"], "certificates")

    claims = verify(
        parts["report"],
        anchors=TrustAnchors.shipped(),
        collateral=SnpEndorsements(vek=vek, ask=ask, ark=ark),
        now=vector.now if "verify_time" in vector.meta else datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert claims.value.report_data == report[0x50:0x90]


def _der(certificate: bytes) -> bytes:
    return x509.split_pem(certificate, "certificate")[0] if certificate.startswith(b"-----") else certificate


QUOTES = [one for one in vectors.found("tdx") if one.outcome == "valid"]


@pytest.mark.skipif(not QUOTES, reason=vectors.MISSING)
def test_recorded_quotes(tmp_path: Path) -> None:
    """Quotes of real trust domains pass through the interface unchanged; others' report data do not."""
    for number, vector in enumerate(QUOTES):
        quote = vector.part("quote")
        body = dcap.parse(quote).body
        tree = ConfigfsTsm("tdx_guest", lambda _data, _level, held=quote: held)
        with configfs(tmp_path / str(number), tree) as root:
            assert Tsm(root).endorse(body.report_data) == {"quote": quote}
            with pytest.raises(UnavailableError, match="report data: want 0001"):
                Tsm(root).endorse(DATA)
