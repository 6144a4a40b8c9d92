"""Memory files: nobody changes what was passed, or it is not read."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from kluis.enclave import Table
from kluis.enclave.boundary import memfile
from kluis.errors import FormatError

TABLE = Table({"id": [1, 2, 3], "name": ["a", "b", None]})
ALL = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@pytest.fixture
def sealed_with() -> Iterator[Callable[[bytes, int], int]]:
    """Makes a memory file with some of the seals."""
    made: list[int] = []

    def make(data: bytes, seals: int) -> int:
        descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
        os.write(descriptor, data)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        made.append(descriptor)
        return descriptor

    yield make
    for descriptor in made:
        os.close(descriptor)


def test_bytes_there_and_back() -> None:
    """What is put in a memory file is read from it, and stays readable when the descriptor is closed."""
    descriptor = memfile.of_bytes(b"x" * 100_000)
    view = memfile.map_bytes(descriptor, 100_000, "body")
    os.close(descriptor)
    assert view == b"x" * 100_000


def test_nothing_can_change_it() -> None:
    """Its creator itself can neither write, truncate, grow nor unseal it."""
    descriptor = memfile.of_bytes(b"x" * 5000)
    try:
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"y", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 10)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 10_000)
        with pytest.raises(PermissionError):
            mmap.mmap(descriptor, 5000, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        with pytest.raises(PermissionError):
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "left_out", [fcntl.F_SEAL_SEAL, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW, fcntl.F_SEAL_WRITE]
)
def test_each_seal_is_wanted(left_out: int, sealed_with: Callable[[bytes, int], int]) -> None:
    """With any one seal left out the file is not mapped."""
    if left_out == fcntl.F_SEAL_SEAL:
        seals = ALL & ~fcntl.F_SEAL_SEAL
    else:
        seals = (ALL & ~left_out) & ~fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SEAL
    with pytest.raises(FormatError) as refused:
        memfile.map_bytes(sealed_with(b"x", seals), 10, "body")
    assert refused.value.message == f"body: want seals 0b1111, got {seals:#06b}"
    assert refused.value.code == "not_sealed"


def test_write_seal_that_spares_old_mappings(sealed_with: Callable[[bytes, int], int]) -> None:
    """F_SEAL_FUTURE_WRITE does not suffice: existing mappings can still be written."""
    future_write = 0x10
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | future_write
    with pytest.raises(FormatError):
        memfile.map_bytes(sealed_with(b"x", seals), 10, "body")


def test_not_a_memory_file(tmp_path: Path) -> None:
    """A pipe, and a file on a disk, have no seals."""
    reader, writer = os.pipe()
    (tmp_path / "file").write_bytes(b"x")
    file = os.open(tmp_path / "file", os.O_RDONLY)
    for descriptor in (reader, writer, file):
        with pytest.raises(FormatError, match=r"^body: want (a memory file|seals)"):
            memfile.map_bytes(descriptor, 10, "body")
        os.close(descriptor)


def test_size_is_bounded(sealed_with: Callable[[bytes, int], int]) -> None:
    """An empty file, and one too large, are refused before they are mapped."""
    for data in (b"", b"x" * 11):
        with pytest.raises(FormatError) as refused:
            memfile.map_bytes(sealed_with(data, ALL), 10, "body")
        assert refused.value.message == f"body: want 1 to 10 bytes, got {len(data)}"


def test_table_there_and_back() -> None:
    """A table is read as it was written."""
    descriptor = memfile.of_table(TABLE)
    try:
        assert memfile.map_table(descriptor, 1 << 20, "table") == TABLE
    finally:
        os.close(descriptor)


def stream(table: pa.Table) -> bytearray:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytearray(sink.getvalue().to_pybytes())


def test_offsets_past_the_end(sealed_with: Callable[[bytes, int], int]) -> None:
    """A string column whose offsets lead out of its buffer is refused whole."""
    data = stream(pa.table({"s": ["aaaa", "bbbb"]}))
    at = bytes(data).index((4).to_bytes(4, "little") + (8).to_bytes(4, "little"))
    data[at + 4 : at + 8] = (1 << 30).to_bytes(4, "little")
    with pytest.raises(FormatError, match="not a valid Arrow stream"):
        memfile.map_table(sealed_with(bytes(data), ALL), 1 << 20, "table")


def test_bad_utf8(sealed_with: Callable[[bytes, int], int]) -> None:
    """Text that is no UTF-8 is refused."""
    data = stream(pa.table({"s": ["aaaa", "bbbb"]}))
    at = bytes(data).index(b"aaaabbbb")
    data[at] = 0xFF
    with pytest.raises(FormatError, match="not a valid Arrow stream"):
        memfile.map_table(sealed_with(bytes(data), ALL), 1 << 20, "table")


def test_dictionary_index_past_the_end(sealed_with: Callable[[bytes, int], int]) -> None:
    """An index that names no value of its dictionary is refused."""
    values = pa.DictionaryArray.from_arrays(pa.array([0, 1, 77], pa.int32()), ["x", "y"], safe=False)
    data = stream(pa.table({"d": values}))
    with pytest.raises(FormatError, match="not a valid Arrow stream"):
        memfile.map_table(sealed_with(bytes(data), ALL), 1 << 20, "table")


def test_bytes_after_the_table(sealed_with: Callable[[bytes, int], int]) -> None:
    """Unclaimed bytes are refused."""
    with pytest.raises(FormatError, match=r"^table: 5 bytes after the table$"):
        memfile.map_table(sealed_with(bytes(stream(pa.table({"a": [1]}))) + b"trail", ALL), 1 << 20, "table")


def test_every_cut_and_flip(sealed_with: Callable[[bytes, int], int]) -> None:
    """A stream cut anywhere, or with any byte changed, is refused or is another table; never a crash."""
    good = bytes(stream(pa.table({"a": [1, 2], "s": ["x", "yy"]})))
    cases = [good[:n] for n in range(1, len(good))]
    cases += [good[:i] + bytes([good[i] ^ 0xFF]) + good[i + 1 :] for i in range(len(good))]
    for data in cases:
        try:
            memfile.map_table(sealed_with(data, ALL), 1 << 20, "table")
        except (FormatError, MemoryError):
            continue
