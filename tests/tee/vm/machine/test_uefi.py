"""The boot ``uefi``: OVMF, a unified image and a vTPM, in which both are measured."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from kluis.tee.vm.machine import programs
from kluis.tee.vm.machine.machine import GUEST_MEMORY, Machine
from kluis.tee.vm.machine.tpm import Tpm
from tests.tee.vm.machine import guest

pytestmark = pytest.mark.slow


def _unified(small: guest.Small, folder: Path) -> guest.Small:
    image = folder / "unified.efi"
    # Its interpreter is the one that Debian packages modules for.
    line = [
        "/usr/bin/python3",
        "/usr/bin/ukify",
        "build",
        f"--linux={small.kernel}",
        f"--initrd={small.initrd}",
    ]
    subprocess.run(
        [*line, f"--cmdline={small.command_line}", f"--output={image}"], check=True, capture_output=True
    )
    return dataclasses.replace(small, unified=image)


def test_measured_boot(tmp_path: Path) -> None:
    """The guest finds its image in PCR 4 and its sections in PCR 11; after a stop no vTPM is left."""
    if shutil.which("ukify") is None or not programs.OVMF_CODE.exists() or shutil.which("swtpm") is None:
        pytest.skip("apt-get install ovmf swtpm systemd-ukify systemd-boot-efi")
    small = _unified(guest.small(tmp_path, "measured"), tmp_path)
    with guest.only_one():
        tpm = Tpm.start(tmp_path / "tpm", bytes(32))
        with Machine.start(small, boot="uefi", memory_mb=512, accelerator="tcg", tpm=tpm) as machine:
            assert GUEST_MEMORY not in machine.missing
            machine.await_first(0, guest.SECONDS)
            machine.port(0).settimeout(guest.SECONDS)
            with machine.port(0).makefile() as lines:
                registers = [lines.readline().strip() for _ in range(2)]
    assert all(len(register) == 64 and set(register) != {"0"} for register in registers), registers
    assert registers[0] != registers[1]
    assert tpm.last_words() is not None
