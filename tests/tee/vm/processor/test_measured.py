"""The launch digest of an emulated processor: each part of a boot changes it."""

from __future__ import annotations

import pytest

from kluis.formats.snp import firmware
from kluis.formats.snp.firmware import SectionKind
from kluis.tee.vm.processor import measured

BIOS = bytes(range(256)) * 33
GOOD = (BIOS, b"kernel", b"initrd", "quiet", 2)


def test_the_firmware_is_one() -> None:
    """It parses, ends in whole pages, and holds the BIOS byte for byte."""
    data = measured.firmware_of(BIOS)
    found = firmware.parse(data)
    assert data[-4096 - len(BIOS) : -4096] == BIOS
    assert SectionKind.KERNEL_HASHES in {section.kind for section in found.sections}
    assert found.hash_table_address == found.sections[-1].address


@pytest.mark.parametrize(
    "changed",
    [
        (BIOS[:-1] + b"\0", *GOOD[1:]),
        (BIOS, b"kernem", *GOOD[2:]),
        (*GOOD[:2], b"initre", *GOOD[3:]),
        (*GOOD[:3], "quiet ", 2),
        (*GOOD[:4], 1),
    ],
)
def test_each_part_counts(changed: tuple[bytes, bytes, bytes, str, int]) -> None:
    """One byte of the BIOS, the kernel, the initrd or the command line, or a processor."""
    assert measured.measure(*GOOD) == measured.measure(*GOOD)
    assert measured.measure(*changed) != measured.measure(*GOOD)


def test_what_the_processor_knows() -> None:
    """The image of a machine that runs only one is its host data; launches differ by their report id."""
    digest = measured.measure(*GOOD)
    one, other = (
        measured.describe_launch(digest, only=bytes([7]) * 32, debug=debug) for debug in (False, True)
    )
    assert (one.measurement, one.host_data, one.policy.debug) == (digest, bytes([7]) * 32, False)
    assert other.policy.debug
    assert one.report_id != other.report_id
    assert measured.describe_launch(digest).host_data == bytes(32)
