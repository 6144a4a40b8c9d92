"""``kluis measure --snp``, as a person and a program use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kluis.cli.main import run
from kluis.formats.snp import firmware
from kluis.tee.measure.snp import kernel, launch, vcpu
from kluis.tee.measure.snp.vcpu import Monitor
from tests.formats.snp import images


@pytest.fixture
def ovmf(tmp_path: Path) -> str:
    """A firmware image's path."""
    path = tmp_path / "ovmf.fd"
    path.write_bytes(images.image())
    return str(path)


def test_measures(ovmf: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The measurement is the library's, for all options of the command line."""
    for name in ("kernel", "initrd"):
        (tmp_path / name).write_text(name)
    boot = ["--kernel", f"{tmp_path}/kernel", "--initrd", f"{tmp_path}/initrd", "--append", "quiet"]
    words = ["--vcpus", "3", "--vcpu-type", "EPYC-Genoa", "--vmm", "ec2", "--features", "0x21"]
    assert run(["measure", "--snp", "--ovmf", ovmf, *boot, *words, "--json"]) == 0
    guest = launch.Guest(
        firmware=firmware.parse(images.image()),
        vcpus=3,
        cpu=vcpu.TYPES["EPYC-Genoa"],
        kernel=kernel.hashes(b"kernel", b"initrd", "quiet"),
        features=0x21,
        monitor=Monitor.EC2,
    )
    assert json.loads(capsys.readouterr().out) == {
        "tee": "snp",
        "measurement": launch.measure(guest).value.hex(),
        "vcpus": 3,
        "vcpu_signature": "0xa10f10",
        "features": "0x21",
        "monitor": "ec2",
        "kernel": True,
    }


def test_in_words(ovmf: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For a person it states whether the kernel is included."""
    assert run(["measure", "--snp", "--ovmf", ovmf]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert len(rows["measurement"]) == 96
    assert rows["kernel"] == "not measured: the firmware chooses what to boot"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "measure: want a .kluis image, or --snp with --ovmf FILE, one of the two"),
        (["--snp", "a.kluis"], "measure: want a .kluis image, or --snp with --ovmf FILE, one of the two"),
        (["a.kluis", "--ovmf", "OVMF"], "measure: want --snp with --ovmf"),
        (["--snp"], "measure: want --ovmf with --snp"),
        (["--snp", "--ovmf", "OVMF", "--append", "x"], "measure: want --kernel with --initrd or --append"),
        (["--snp", "--ovmf", "OVMF", "--initrd", "x"], "measure: want --kernel with --initrd or --append"),
        (
            ["--snp", "--ovmf", "OVMF", "--features", "x"],
            "measure: want --features of 64 bits, like 0x1, got 'x'",
        ),
        (
            ["--snp", "--ovmf", "OVMF", "--features", "-1"],
            "measure: want --features of 64 bits, like 0x1, got '-1'",
        ),
        (["--snp", "--ovmf", "OVMF", "--vcpus", "0"], "vCPUs: want 1..4096, got 0"),
    ],
)
def test_what_does_not_fit(
    words: list[str], message: str, ovmf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Incompatible options are refused, and the message names compatible ones."""
    assert run(["measure", *(ovmf if word == "OVMF" else word for word in words)]) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"kluis: error: {message}"
