"""The table of kernel hashes: what a firmware compares at boot."""

from __future__ import annotations

import hashlib

from kluis.tee.measure.snp import kernel


def test_table() -> None:
    """Command line, initrd and kernel come in that order, under their GUIDs, at the table's place."""
    page = kernel.hashes(b"kernel", b"initrd", "quiet").page(0x80FC00)
    assert len(page) == 4096
    assert page[:0xC00] == bytes(0xC00)
    table = page[0xC00:]
    assert table[:18].hex() == "06d63894224fc94cb479a793d411fd21a800"
    names = (
        "d82dd09720bd944caa78e7714d36ab2a",
        "31f7ba442f3ad74b9af141e29169781d",
        "3794e74dd2ab7f42b835d5b172d2045b",
    )
    digests = [hashlib.sha256(data).digest() for data in (b"quiet\0", b"initrd", b"kernel")]
    for index, (name, digest) in enumerate(zip(names, digests, strict=True)):
        start = 18 + index * 50
        assert table[start : start + 50] == bytes.fromhex(name) + b"\x32\0" + digest
    assert not any(table[168:])


def test_what_is_not_given_is_empty() -> None:
    """A missing initrd is an empty one; a missing command line is only its NUL."""
    made = kernel.hashes(b"kernel")
    assert made.initrd == hashlib.sha256(b"").digest()
    assert made.command_line == hashlib.sha256(b"\0").digest()
