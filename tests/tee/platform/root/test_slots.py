"""Numbers that are written in place are whole after a crash, and a file that no crash makes is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kluis import files
from kluis.errors import FormatError, UnavailableError
from kluis.formats.encoding import jcs
from kluis.tee.platform.root import slots
from kluis.tee.platform.root.slots import Held, Slots


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file will be."""
    return tmp_path / "counters"


def written(path: Path, values: int) -> bytes:
    """The file after a name was given the values 1 to ``values``."""
    path.unlink(missing_ok=True)
    mine = Slots(path)
    for value in range(1, values + 1):
        mine.write("one", Held(value, bytes([value])))
    return path.read_bytes()


def test_values_are_there_again(path: Path) -> None:
    """Another object reads every name's newest value; the file has grown where it had to."""
    mine = Slots(path)
    names = [f"name {number}" for number in range(100)]
    for value in (1, 2, 3):
        for name in names:
            mine.write(name, Held(value, b"mark"))
    assert Slots(path).values == mine.values == dict.fromkeys(names, Held(3, b"mark"))
    assert path.stat().st_size == 2 * slots.GROWTH
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("values", [1, 2, 3, 4])
def test_a_write_cut_short_anywhere(path: Path, values: int) -> None:
    """However much of a write reached the disk, the value is the one before it, or its own."""
    before, after = written(path, values), written(path, values + 1)
    (at,) = {index // slots.SLOT for index, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}
    for size in range(0, slots.SLOT, 7):
        torn = bytearray(before)
        torn[at * slots.SLOT : at * slots.SLOT + size] = after[at * slots.SLOT : at * slots.SLOT + size]
        path.write_bytes(torn)
        read = Slots(path)
        assert read.values["one"] in (Held(values, bytes([values])), Held(values + 1, bytes([values + 1])))
        read.write("one", Held(values + 2, b""))
        assert Slots(path).values == {"one": Held(values + 2, b"")}


def test_a_first_write_cut_short(path: Path) -> None:
    """A name whose first write was cut short was never confirmed, and its place is free."""
    data = bytearray(written(path, 1))
    data[40] ^= 1
    path.write_bytes(data)
    mine = Slots(path)
    assert mine.values == {}
    mine.write("two", Held(1, b""))
    assert Slots(path).values == {"two": Held(1, b"")}


def test_two_damaged_slots(path: Path) -> None:
    """No crash damages both slots of a record: it is refused, not treated as new."""
    data = bytearray(written(path, 2))
    data[40] ^= 1
    data[slots.SLOT + 40] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError) as refused:
        Slots(path)
    assert refused.value.message == "counters at 0: want one whole slot, got two damaged ones"


def test_one_name_twice(path: Path) -> None:
    """Two records of one name are refused."""
    data = written(path, 1)
    path.write_bytes(data[: slots.RECORD] * 2 + data[2 * slots.RECORD :])
    with pytest.raises(FormatError) as refused:
        Slots(path)
    assert refused.value.message == "counters at 0: want one record a name, got another"


@pytest.mark.parametrize("size", [1, slots.SLOT, slots.MOST_BYTES + slots.RECORD])
def test_another_size(path: Path, size: int) -> None:
    """A file of another size is refused."""
    files.write(path, bytes(size))
    with pytest.raises(FormatError) as refused:
        Slots(path)
    assert refused.value.message == f"counters: want whole records, at most 4194304 bytes, got {size}"


def test_open_to_others(path: Path) -> None:
    """A file that others may read is refused, with the fix."""
    written(path, 1)
    path.chmod(0o644)
    with pytest.raises(UnavailableError) as refused:
        Slots(path)
    assert refused.value.message == f"{path}: want mode 0600, got 0644"
    assert refused.value.hint == f"chmod 600 {path}"


def test_what_another_process_left_is_flushed_before_it_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that nobody flushed may be torn on the disk, and the next change goes over its other slot."""
    order: list[str] = []
    pread = os.pread

    def noted(file: int, size: int, at: int) -> bytes:
        order.append("read")
        return pread(file, size, at)

    left = Slots(path)
    monkeypatch.setattr(os, "pread", noted)
    monkeypatch.setattr(os, "fdatasync", lambda _: order.append("flush"))
    left.write("one", Held(1, b""))
    order.clear()
    assert Slots(path).values == left.values == {"one": Held(1, b"")}
    assert order[:2] == ["flush", "read"]
    assert order.count("flush") == 1


def test_a_disk_that_takes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that could not be flushed is not there, and can be written again."""
    mine = Slots(path)
    mine.write("one", Held(1, b""))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", full)
        with pytest.raises(UnavailableError) as failed:
            mine.write("one", Held(2, b""))
    assert failed.value.message == "counters: cannot be written: No space left on device"
    assert mine.values == {"one": Held(1, b"")}
    mine.write("one", Held(2, b""))
    assert Slots(path).values == {"one": Held(2, b"")}


def test_digest(tmp_path: Path) -> None:
    """Each change is another digest, and the digest before the last one is known, also after a restart."""
    path = tmp_path / "file"
    mine = Slots(path)
    seen = [mine.digest()]
    assert mine.digest_before() == seen[0]
    for name, value in (("one", 1), ("two", 1), ("one", 2), ("one", 3), ("two", 2), ("three", 9)):
        mine.write(name, Held(value, b"mark"))
        for held in (mine, Slots(path)):
            assert held.digest() not in seen
            assert held.digest() == mine.digest()
            assert held.digest_before() == seen[-1]
        seen.append(mine.digest())


def test_digest_covers_everything(tmp_path: Path) -> None:
    """Value, mark, user and order of changes are in the digest."""
    digests = set()
    for number, changes in enumerate((
        [("one", Held(1, b""))],
        [("one", Held(2, b""))],
        [("one", Held(1, b"m"))],
        [("one", Held(1, b"", 5))],
        [("two", Held(1, b""))],
        [("one", Held(1, b"")), ("two", Held(1, b""))],
        [("two", Held(1, b"")), ("one", Held(1, b""))],
    )):  # fmt: skip
        mine = Slots(tmp_path / str(number))
        for name, held in changes:
            mine.write(name, held)
        digests.add(mine.digest())
    assert len(digests) == 7


@pytest.mark.parametrize(
    "name", ["ab12/7/release/00ff", "measurement/ab/debug/01", "name 1", 'quote"', "é", "٣", "back\\slash"]
)
@pytest.mark.parametrize("change", [0, 1, (1 << 53) - 1])
def test_a_record_is_canonical_json(name: str, change: int) -> None:
    """Also those that are written without the canonical writer."""
    held = Held(7, b"\x00\xffmark", 1000)
    numbered = {"change": change} if change else {}
    wanted = jcs.dumps({"mark": held.mark.hex(), "name": name, "user": 1000, "value": 7, **numbered})
    assert slots._Record(name, held, change).encode() == wanted
