"""Guest firmware: its table read backwards, its sections in whole pages, nothing out of bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.snp import firmware
from kluis.formats.snp.firmware import Section, SectionKind
from tests.formats.snp import images
from tests.formats.snp.images import FROM_END, entry, image, metadata
from tests.strategies import PROPERTY, mutations

PAGES = 3
END = PAGES * 4096 - 32
FOOTER_AT = END - 18
START = PAGES * 4096 - FROM_END
META = "OVMF SEV metadata"


def test_reads() -> None:
    """Table and sections are at the firmware's offsets, and it ends at 4 GiB."""
    read = firmware.parse(image())
    assert read.address == 0x1_0000_0000 - PAGES * 4096
    assert (read.reset_address, read.hash_table_address) == (images.RESET, images.HASHES)
    assert read.sections == tuple(Section(*section) for section in images.SECTIONS)
    assert [section.kind for section in read.sections][:2] == [SectionKind.MEMORY] * 2


def test_without_metadata() -> None:
    """A firmware that lists no sections has none, and names no addresses that it does not have."""
    read = firmware.parse(image(entries=(entry(b"x" * 16, b""),)))
    assert (read.sections, read.table) == ((), {b"x" * 16: b""})
    with pytest.raises(FormatError) as caught:
        _ = read.reset_address
    assert str(caught.value) == ("OVMF: names no reset block (00f771de-1a7e-4fcb-890e-68c77e2fb44e)")
    for data in (bytes(4), b"\1\2\3"):
        read = firmware.parse(image(entries=(entry(firmware.HASH_TABLE, data),)))
        with pytest.raises(FormatError) as caught:
            _ = read.hash_table_address
        assert str(caught.value) == (
            "OVMF: names no table of kernel hashes (7255371f-3a3b-4b04-927b-1da6efa8d454)"
        )


def _meta(data: bytes) -> bytes:
    return image(meta=data)


def _section(address: int, size: int, kind: int = 1) -> bytes:
    return image(meta=metadata(((address, size, kind),)))


def _at(offset: int) -> bytes:
    return image(entries=(entry(firmware.METADATA, offset.to_bytes(4, "little")),))


REFUSED: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "OVMF: is 0 bytes, must be 4 KiB to 64 MiB in whole pages", "bad_length"),
    "half a page": (bytes(6144), "OVMF: is 6144 bytes, must be 4 KiB to 64 MiB in whole pages", "bad_length"),
    "large": (
        bytes((64 << 20) + 4096),
        "OVMF: is 67112960 bytes, must be 4 KiB to 64 MiB in whole pages",
        "bad_length",
    ),
    "no table": (
        image(footer=b"x" * 16),
        f"OVMF at {FOOTER_AT:#x}: has no table of GUIDs",
        "bad_magic",
    ),
    "table too small": (image(size=17), f"OVMF at {FOOTER_AT:#x}: table of 17 bytes", "bad_length"),
    "table too large": (
        image(size=0xFFFF),
        f"OVMF at {FOOTER_AT:#x}: table of 65535 bytes",
        "bad_length",
    ),
    "an entry cut": (
        image(entries=(b"x" * 17,)),
        f"OVMF at {FOOTER_AT:#x}: entry is cut short",
        "truncated",
    ),
    "an entry too small": (
        image(entries=(b"\x11\0" + b"x" * 16,)),
        f"OVMF at {FOOTER_AT - 18:#x}: entry of 17 bytes",
        "bad_length",
    ),
    "an entry past the table": (
        image(entries=(b"\x13\0" + b"x" * 16,)),
        f"OVMF at {FOOTER_AT - 18:#x}: entry of 19 bytes",
        "bad_length",
    ),
    "an entry twice": (
        image(entries=(entry(firmware.HASH_TABLE, b""), entry(firmware.HASH_TABLE, b""))),
        f"OVMF at {FOOTER_AT - 36:#x}: 7255371f-3a3b-4b04-927b-1da6efa8d454 appears twice",
        "duplicate_key",
    ),
    "metadata before the image": (
        _at(PAGES * 4096 + 1),
        "OVMF: SEV metadata are 12289 bytes before the end",
        "bad_length",
    ),
    "metadata without place": (
        image(entries=(entry(firmware.METADATA, b"\1"),)),
        "OVMF: SEV metadata are 1 bytes before the end",
        "bad_length",
    ),
    "metadata past the end": (_at(8), f"{META}.header at 0x2ff8: needs 16 bytes, 8 left", "truncated"),
    "signature": (
        _meta(b"ASEX" + metadata()[4:]),
        f"{META}: want ASEV version 1, got b'ASEX' version 1",
        "bad_version",
    ),
    "version": (
        _meta(metadata(version=2)),
        f"{META}: want ASEV version 1, got b'ASEV' version 2",
        "bad_version",
    ),
    "many": (
        _meta(metadata(((0, 4096, 1),) * 0)[:12] + (257).to_bytes(4, "little")),
        f"{META}: 257 sections in 16 bytes",
        "bad_length",
    ),
    "count": (
        _meta(metadata()[:12] + (5).to_bytes(4, "little")),
        f"{META}: 5 sections in 88 bytes",
        "bad_length",
    ),
    "kind": (_section(0, 4096, 5), f"{META}: section of kind 0x5 is not known", "bad_type"),
    "address": (
        _section(1, 4096),
        f"{META}: section of 0x1000 bytes at 0x1 is not whole pages",
        "bad_length",
    ),
    "size": (_section(0, 4097), f"{META}: section of 0x1001 bytes at 0x0 is not whole pages", "bad_length"),
    "empty": (_section(4096, 0), f"{META}: section of 0x0 bytes at 0x1000 is not whole pages", "bad_length"),
    "huge": (
        _section(0, (1 << 30) + 4096),
        f"{META}: section of 0x40001000 bytes at 0x0 is not whole pages",
        "bad_length",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """A table, an entry or a section that does not fit is refused, with its place."""
    data, message, code = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        firmware.parse(data)
    assert (str(caught.value), caught.value.code) == (message, code)
    assert isinstance(caught.value, UnsupportedError) is (code == "bad_version" or name == "kind")


TAIL = image()[START:]


@PROPERTY
@given(mutations(TAIL))
def test_only_our_errors(tail: bytes) -> None:
    """No foreign exception leaves the reader, whatever is at the image's end."""
    data = image()[:START] + tail
    try:
        read = firmware.parse(data)
    except KluisError:
        return
    assert read.data == data


DEBIAN = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")


@pytest.mark.skipif(not DEBIAN.exists(), reason="no firmware here: apt-get install ovmf")
def test_debians_firmware() -> None:
    """A real firmware is read: it lists the sections that every SNP guest needs."""
    read = firmware.parse(DEBIAN.read_bytes())
    assert {SectionKind.MEMORY, SectionKind.SECRETS, SectionKind.CPUID} <= {s.kind for s in read.sections}
    assert read.reset_address
