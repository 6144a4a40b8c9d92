"""What a SEV-SNP guest measures to: each page counts, in its order and at its place."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from kluis.errors import FormatError, UsageError
from kluis.formats.snp import firmware
from kluis.formats.snp.firmware import Firmware, SectionKind
from kluis.formats.snp.page_info import PageType
from kluis.tee.measure.snp import kernel, launch, vcpu
from kluis.tee.measure.snp.launch import Guest, LaunchDigest
from kluis.tee.measure.snp.vcpu import Monitor
from tests.formats.snp import images
from tests.formats.snp.images import entry, image, metadata

FIRMWARE = firmware.parse(image())
CPU = vcpu.TYPES["EPYC-v4"]
KERNEL = kernel.hashes(b"kernel", b"initrd", "quiet")
GUEST = Guest(firmware=FIRMWARE, vcpus=2, cpu=CPU)


def test_a_page_is_chained() -> None:
    """Each page's record holds the digest before it, its contents' digest, its kind and its place."""
    digest = LaunchDigest()
    digest.add(PageType.NORMAL, 0xFF000000, b"p" * 4096)
    record = bytes(48) + hashlib.sha384(b"p" * 4096).digest() + bytes.fromhex("7000010000000000")
    first = hashlib.sha384(record + (0xFF000000).to_bytes(8, "little")).digest()
    assert digest.value == first
    digest.add(PageType.SECRETS, 0x1000)
    record = first + bytes(48) + bytes.fromhex("7000050000000000") + (0x1000).to_bytes(8, "little")
    assert digest.value == hashlib.sha384(record).digest()


def test_everything_counts() -> None:
    """Firmware, processors, kernel, features and monitor each change the measurement."""
    other = bytearray(image())
    other[0] ^= 1
    variants = [
        GUEST,
        dataclasses.replace(GUEST, firmware=firmware.parse(bytes(other))),
        dataclasses.replace(GUEST, vcpus=1),
        dataclasses.replace(GUEST, vcpus=3),
        dataclasses.replace(GUEST, cpu=vcpu.TYPES["EPYC-Milan"]),
        dataclasses.replace(GUEST, kernel=KERNEL),
        dataclasses.replace(GUEST, kernel=kernel.hashes(b"kernel", b"initrd", "quiet ")),
        dataclasses.replace(GUEST, kernel=kernel.hashes(b"kernel", b"", "quiet")),
        dataclasses.replace(GUEST, features=0x21),
        dataclasses.replace(GUEST, monitor=Monitor.EC2),
        dataclasses.replace(GUEST, monitor=Monitor.GCE),
    ]
    digests = [launch.measure(variant) for variant in variants]
    assert len({digest.value for digest in digests}) == len(variants)
    assert {digest.algorithm for digest in digests} == {"sha384"}
    assert launch.measure(GUEST) == digests[0]


@pytest.mark.parametrize("vcpus", [0, -1, 4097])
def test_processors_are_bounded(vcpus: int) -> None:
    """A guest has at least one processor, and no more than can be."""
    with pytest.raises(UsageError) as caught:
        launch.measure(dataclasses.replace(GUEST, vcpus=vcpus))
    assert str(caught.value) == f"vCPUs: want 1..4096, got {vcpus}"


def _firmware(sections: tuple[tuple[int, int, int], ...], *entries: bytes) -> Firmware:
    return firmware.parse(image(entries=(*images.default_entries()[1:2], *entries), meta=metadata(sections)))


def test_a_kernel_needs_a_firmware_that_checks_it() -> None:
    """Hashes that the firmware has no place for would be a promise that nobody keeps."""
    guest = dataclasses.replace(GUEST, kernel=KERNEL, firmware=_firmware(images.SECTIONS[:4]))
    with pytest.raises(UsageError) as caught:
        launch.measure(guest)
    assert str(caught.value) == "OVMF: has no section for kernel hashes, so it would boot any kernel"
    wide = _firmware(((0x1000, 0x2000, SectionKind.KERNEL_HASHES),))
    with pytest.raises(UsageError) as caught:
        launch.measure(dataclasses.replace(guest, firmware=wide))
    assert str(caught.value) == "OVMF: section for kernel hashes: want 1 page, got 0x2000 bytes"
    with pytest.raises(FormatError) as caught_format:
        launch.measure(dataclasses.replace(guest, firmware=_firmware(images.SECTIONS)))
    assert "names no table of kernel hashes" in str(caught_format.value)


def test_one_processor_needs_no_reset_block() -> None:
    """Where the others begin matters only where there are others."""
    guest = dataclasses.replace(GUEST, firmware=_firmware(images.SECTIONS), vcpus=1)
    assert launch.measure(guest)
    with pytest.raises(FormatError) as caught:
        launch.measure(dataclasses.replace(guest, vcpus=2))
    assert "names no reset block" in str(caught.value)


def test_the_table_of_hashes_fits_its_page() -> None:
    """A place for the table that leaves too little of its page is refused."""
    late = entry(firmware.HASH_TABLE, (0x0080FFF0).to_bytes(4, "little"))
    guest = dataclasses.replace(GUEST, kernel=KERNEL, firmware=_firmware(images.SECTIONS, late), vcpus=1)
    with pytest.raises(UsageError) as caught:
        launch.measure(guest)
    assert str(caught.value) == "OVMF: table of kernel hashes at 0x80fff0 passes its page's end"
