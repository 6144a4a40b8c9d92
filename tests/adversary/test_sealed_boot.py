"""Someone who writes the disk of a machine, against a secret that is sealed to its TPM.

A loader such as GRUB reads kernel, initial RAM disk and command line from files that nobody signs. They are
not in the PCRs that contain a unified image.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.formats.tpm.sealed import SealedSecret
from kluis.tee.tpm import sealing
from kluis.tee.tpm.tpm import Tpm
from tests.tee.tpm import tpms

pytestmark = pytest.mark.skipif(bool(tpms.MISSING), reason=f"not installed: {', '.join(tpms.MISSING)}")
SECRET = bytes(range(32))
LOADER, COMMANDS, KERNEL, RAM_DISK = (bytes([each]) * 32 for each in range(1, 5))


def _boot(tpm: Tpm, commands: bytes = COMMANDS, ram_disk: bytes = RAM_DISK) -> None:
    """What firmware and loader extend."""
    for index, value in ((4, LOADER), (8, commands), (9, KERNEL), (9, ram_disk)):
        tpm.extend(index, value)


@pytest.mark.parametrize("changed", ["commands", "ram_disk"])
def test_another_command_line_or_ram_disk(tmp_path: Path, changed: str) -> None:
    """The same loader with another command line, or another RAM disk, does not get the secret."""
    with tpms.running(tmp_path) as software:
        with software.tpm() as tpm:
            _boot(tpm)
            stored = sealing.seal(tpm, SECRET, sealing.current(tpm))
        software.restart()
        with software.tpm() as tpm:
            _boot(tpm)
            assert sealing.unseal(tpm, stored) == SECRET
        software.restart()
        with software.tpm() as tpm:
            _boot(tpm, **{changed: b"\xee" * 32})
            _refused(tpm, stored)
            # A file that names fewer registers does not help: the object's own policy decides.
            (held,) = stored.objects
            fewer = {index: held.values[index] for index in sealing.UNIFIED}
            _refused(tpm, type(stored)((dataclasses.replace(held, values=fewer),)))


def test_a_unified_image_is_sealed_without_them(tmp_path: Path) -> None:
    """A unified image is whole in PCR 4 and 11, so what it extends later does not lose the secret."""
    with tpms.running(tmp_path) as software, software.tpm() as tpm:
        for index in (4, 11):
            tpm.extend(index, KERNEL)
        stored = sealing.seal(tpm, SECRET, sealing.current(tpm))
        assert sorted(stored.objects[0].values) == [4, 7, 11, 12]
        tpm.extend(9, RAM_DISK)
        assert sealing.unseal(tpm, stored) == SECRET


def _refused(tpm: Tpm, stored: SealedSecret) -> None:
    with pytest.raises(UnavailableError) as caught:
        sealing.unseal(tpm, stored)
    assert caught.value.code == "tpm_policy"
