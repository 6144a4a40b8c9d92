"""The tests of ``tests/enclave`` and ``tests/host`` that start enclaves, in one warm machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kluis.tee.vm.guest import building
from kluis.tee.vm.machine import kept, ondemand
from kluis.tee.vm.machine.kept import Settings
from tests import machines
from tests.tee.vm.machine.guest import only_one

ROOT = Path(__file__).parents[3]
FOLDERS = ("tests/enclave", "tests/host")
LEAST_TESTS = 100
SECONDS = 4 * 3600.0


def test_every_difference_names_tests() -> None:
    """The list on the page has a reason for each row, and each row names a test that is there."""
    found = machines.differences()
    assert found
    for name, reason in found.items():
        file, _, function = name.partition("::")
        assert name.startswith(FOLDERS)
        assert not function or f"\ndef {function}(" in (ROOT / file).read_text("utf-8"), name
        assert (ROOT / file).is_file()
        assert len(reason) > 20


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Path]:
    """The folder of a warm machine."""
    if os.geteuid() != 0:
        pytest.skip("a machine within all walls needs root")
    for tool in ("qemu-system-x86_64", "mkfs.erofs", "ukify"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: kluis doctor names its package")
    with only_one():
        building.build(tmp_path / "guest")
        settings = Settings("suite", str(tmp_path / "guest"), memory_mb=4096, cpus=2, ports=30)
        kept.start(settings)
        try:
            ondemand.await_platform("suite")
            yield kept.place("suite")
        finally:
            kept.stop("suite")


@pytest.mark.slow
def test_in_a_machine(machine: Path, tmp_path: Path) -> None:
    """All pass but those that the page lists, and of the listed ones each is left out."""
    report = tmp_path / "report.xml"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *FOLDERS],
        cwd=ROOT,
        env={**os.environ, machines.MACHINE: str(machine)},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    passed, skipped = 0, set()
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.attrib["classname"].replace(".", "/") + ".py"
        name = machines.difference_of(f"{file}::{case.attrib['name']}")
        if case.find("skipped") is None:
            passed += 1
            assert name is None
        elif name is not None:
            skipped.add(name)
        else:
            assert "in a machine" not in str(case.find("skipped"))
    assert skipped == set(machines.differences())
    assert passed >= LEAST_TESTS
