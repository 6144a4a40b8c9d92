"""A platform over a TPM: its secret is sealed, its counters are witnessed, and an older disk is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.cli.main import run
from kluis.errors import UnavailableError, UsageError
from kluis.tee.platform.daemon import load_root
from kluis.tee.platform.root import sealed
from kluis.tee.process import native
from tests.tee.drivers.devices import tpm_device
from tests.tee.tpm import tpms
from tests.tee.tpm.tpms import Software

ID = bytes(32)
KERNEL = b"\4" * 32


@pytest.fixture
def device(software: Software) -> Iterator[Path]:
    """The software TPM as a device of the kernel."""
    with tpm_device(software) as path:
        yield path


def start(state: Path, device: Path) -> tuple[int, str]:
    """A start of the platform's root: the sealing secret is usable, a counter goes up by one."""
    root = load_root(state, "process", bytes(32), os.open(device, os.O_RDWR | os.O_NOCTTY))
    value, witness, _ = root.counters.increment("owner", ID)
    return value, witness


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path / "state"


def test_restarts(device: Path, state: Path, software: Software) -> None:
    """Over restarts the secret is the same and counters go on; no file contains the secret."""
    first = load_root(state, "process", bytes(32), os.open(device, os.O_RDWR | os.O_NOCTTY)).secret
    assert start(state, device) == (1, "witnessed")
    software.restart()
    assert start(state, device) == (2, "witnessed")
    again = load_root(state, "process", bytes(32), os.open(device, os.O_RDWR | os.O_NOCTTY)).secret

    assert again.report_root == first.report_root
    assert (state / "platform.sealed").stat().st_mode & 0o777 == 0o600
    assert not (state / "platform.secret").exists()


def test_older_disk(device: Path, state: Path, tmp_path: Path) -> None:
    """The whole state directory of an earlier time is refused, across a restart."""
    start(state, device)
    shutil.copytree(state, tmp_path / "older")
    start(state, device)
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "older", state)

    with pytest.raises(UnavailableError, match="an older state was restored") as refused:
        start(state, device)
    assert refused.value.code == "rolled_back"


def test_existing_platform(device: Path, state: Path) -> None:
    """A platform that began without a TPM keeps its secret and its counters, and its secret file is gone."""
    before = load_root(state, "process", bytes(32))
    before.counters.increment("owner", ID)
    assert before.counters.witness == "unwitnessed"

    assert start(state, device) == (2, "witnessed")
    after = load_root(state, "process", bytes(32), os.open(device, os.O_RDWR | os.O_NOCTTY))
    assert after.secret.report_root == before.secret.report_root
    assert not (state / "platform.secret").exists()


def test_state_from_before_its_tpm(device: Path, state: Path, tmp_path: Path) -> None:
    """A copy that was made before opens without the TPM, with the same keys, and its counters say so."""
    before = load_root(state, "process", bytes(32))
    before.counters.increment("owner", ID)
    shutil.copytree(state, tmp_path / "older")
    assert start(state, device) == (2, "witnessed")
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "older", state)

    after = load_root(state, "process", bytes(32))
    assert after.counters.read("owner", ID)[0] == 1
    assert after.counters.witness == "unwitnessed"
    assert after.secret.report_root == before.secret.report_root
    with pytest.raises(UnavailableError, match="is in use by another program, or an earlier platform"):
        start(state, device)


def test_without_its_tpm(device: Path, state: Path) -> None:
    """A sealed platform does not start without its TPM."""
    start(state, device)
    with pytest.raises(UnavailableError, match="is sealed to a TPM") as refused:
        load_root(state, "process", bytes(32))
    assert refused.value.exit_code == 7


def test_planted_secret(device: Path, state: Path) -> None:
    """A secret file that somebody puts there does not take the place of the sealed one."""
    start(state, device)
    secret = load_root(state, "process", bytes(32), os.open(device, os.O_RDWR | os.O_NOCTTY)).secret
    (state / "platform.secret").write_bytes(b"p" * 32)
    (state / "platform.secret").chmod(0o600)
    after = load_root(state, "process", bytes(32), os.open(device, os.O_RDWR | os.O_NOCTTY)).secret
    assert after.report_root == secret.report_root
    (state / "platform.sealed").unlink()
    with pytest.raises(UnavailableError, match="is in use by another program, or an earlier platform"):
        load_root(state, "process", bytes(32), os.open(device, os.O_RDWR | os.O_NOCTTY))


def test_other_boot(device: Path, state: Path, software: Software) -> None:
    """After another kernel was measured the platform does not start, and names the PCR."""
    start(state, device)
    with software.tpm() as tpm:
        tpm.extend(4, KERNEL)
    with pytest.raises(UnavailableError, match="PCR 4: want 00"):
        start(state, device)


def test_announced_upgrade(device: Path, state: Path, software: Software) -> None:
    """Sealed again for an announced boot, the platform starts after both boots."""
    start(state, device)
    with software.tpm() as tpm:
        tpm.extend(4, KERNEL)
        after = sealed.sealing.current(tpm)
    software.restart()
    with software.tpm() as tpm:
        sealed.reseal(state / "platform.sealed", tpm, after)
        with pytest.raises(UsageError, match="reseal: want PCRs 4, 7, 8, 9, 11, 12, got 5"):
            sealed.reseal(state / "platform.sealed", tpm, {5: bytes(32)})
    assert start(state, device) == (2, "witnessed")
    with software.tpm() as tpm:
        tpm.extend(4, KERNEL)
    assert start(state, device) == (3, "witnessed")


def test_cloned_machine(device: Path, state: Path, tmp_path: Path) -> None:
    """The disk in a machine with another TPM unseals nothing, though its PCRs are the same."""
    start(state, device)
    with (
        tpms.running(tmp_path / "other") as other,
        tpm_device(other) as elsewhere,
        pytest.raises(UnavailableError, match="did not make this object"),
    ):
        start(state, elsewhere)


def test_cloned_tpm(device: Path, state: Path, software: Software, tmp_path: Path) -> None:
    """Disk and vTPM state cloned together: once one of the two went on, its disk fits only its own TPM."""
    start(state, device)
    software.stop()
    shutil.copytree(software.state, tmp_path / "clone/state")
    shutil.copytree(state, tmp_path / "copied")
    software.start()
    assert start(state, device) == (2, "witnessed")
    assert start(state, device) == (3, "witnessed")
    clone = Software(tmp_path / "clone")
    clone.start()
    try:
        with tpm_device(clone) as elsewhere:
            with pytest.raises(UnavailableError, match="an older state was restored"):
                start(state, elsewhere)
            assert start(tmp_path / "copied", elsewhere) == (2, "witnessed")
    finally:
        clone.stop()


def test_command(
    device: Path,
    software: Software,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`kluis platform start --tpm` starts it so; counters are witnessed; after another boot it is refused."""
    try:
        native.guardian()
    except UnavailableError as lack:
        pytest.skip(lack.message)
    monkeypatch.setenv("KLUIS_HOME", str(tmp_path / "home"))
    line = ["platform", "start", "--tpm", "--tpm-device", str(device), "--endorse", "none", "--json"]
    try:
        assert run(line) == 0
        assert json.loads(capsys.readouterr().out)["counter"] == "witnessed"
        assert run(["platform", "stop"]) == 0
        assert (tmp_path / "home/state/platform.sealed").exists()
        capsys.readouterr()
        assert run(["platform", "start", "--tpm-device", str(tmp_path / "none")]) == 7
        assert f"TPM: no {tmp_path}/none" in capsys.readouterr().err
        assert run([*line[:2], *line[3:]]) == 0
        assert json.loads(capsys.readouterr().out)["counter"] == "witnessed"
        announced = hashlib.sha256(bytes(32) + KERNEL).hexdigest()
        (tmp_path / "pcrs").write_text(json.dumps({"sha256": {"4": announced}}))
        assert run(["platform", "reseal", str(tmp_path / "pcrs")]) == 0
        (tmp_path / "pcrs").write_text(json.dumps({"sha256": {"0": announced}}))
        assert run(["platform", "reseal", str(tmp_path / "pcrs")]) == 2
        assert run(["platform", "stop"]) == 0
        with software.tpm() as tpm:
            tpm.extend(4, KERNEL)
        capsys.readouterr()
        assert run(line) == 0
        assert json.loads(capsys.readouterr().out)["counter"] == "witnessed"
        assert run(["platform", "stop"]) == 0
        with software.tpm() as tpm:
            tpm.extend(4, KERNEL)
        capsys.readouterr()
        assert run(line) == 7
        assert "this boot is not one that it was sealed for: PCR 4: want" in capsys.readouterr().err
    finally:
        run(["platform", "stop"])
