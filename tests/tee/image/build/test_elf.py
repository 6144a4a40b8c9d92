"""ELF files: what a real one needs is read, and a damaged one is a format error."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kluis.errors import FormatError
from kluis.tee.image.build import elf
from tests.strategies import examples

REAL = Path("/bin/true").resolve()
DATA = REAL.read_bytes()


def test_a_real_program() -> None:
    """A program names the libraries it needs."""
    found = elf.read(REAL)
    assert found is not None
    assert "libc.so.6" in found.needed


def test_a_real_library() -> None:
    """A library names those that it needs, and not itself."""
    found = elf.read(Path("/lib/x86_64-linux-gnu/libc.so.6"))
    assert found is not None
    assert found.needed == ("ld-linux-x86-64.so.2",)


def test_a_large_string_table(tmp_path: Path) -> None:
    """A library with a string table of a hundred megabytes is read, as TensorFlow's must be."""
    words = struct.unpack(f"<{len(DATA) // 8}Q", DATA[: len(DATA) // 8 * 8])
    (at,) = [
        i for i in range(2, len(words) - 2) if words[i] == 10 and words[i + 2] == 11
    ]  # DT_STRSZ, DT_SYMENT
    path = tmp_path / "x"
    path.write_bytes(DATA[: 8 * at + 8] + struct.pack("<Q", 100 << 20) + DATA[8 * at + 16 :])
    with pytest.raises(FormatError, match=r"string table at .*: needs 104857600 bytes, passes the end"):
        elf.read(path)
    os.truncate(path, 200 << 20)
    assert elf.read(path) == elf.read(REAL)


@pytest.mark.parametrize(
    "data", [b"", b"#!/bin/sh\n", b"\x7fELF", DATA[:4] + b"\x01" + DATA[5:], b"\x7fELF" * 30]
)
def test_not_for_this_loader(tmp_path: Path, data: bytes) -> None:
    """Scripts, stubs and objects for other machines are recognised, not parsed."""
    path = tmp_path / "x"
    path.write_bytes(data)
    assert elf.read(path) is None


@given(st.lists(st.tuples(st.integers(0, 1024), st.integers(0, 255)), max_size=4), st.integers(64, len(DATA)))
@settings(
    max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_only_our_errors_escape(tmp_path: Path, edits: list[tuple[int, int]], size: int) -> None:
    """A damaged header or table is refused or passed over; nothing else happens."""
    data = bytearray(DATA[:size])
    for at, value in edits:
        if at < len(data):
            data[at] = value
    path = tmp_path / "x"
    path.write_bytes(data)
    try:
        elf.read(path)
    except FormatError:
        return


def test_the_running_interpreter_is_readable() -> None:
    """The interpreter itself is an object that the loader could load."""
    assert elf.read(Path(sys.executable).resolve()) is not None
