"""An index has one spelling and one layout, and its paths lead nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError
from kluis.tee.image import canonical, layers
from kluis.tee.image.layers import Entry

ZERO = "0" * 64


def entry(path: str, **changed: object) -> Entry:
    fields: dict[str, object] = {"mode": 0o444, "offset": 0, "path": path, "sha256": ZERO, "size": 0}
    return Entry(**{**fields, **changed})  # type: ignore[arg-type]


def refused(entries: list[Entry], size: int = 0) -> str:
    with pytest.raises(FormatError) as caught:
        layers.parse_index(canonical.encode(entries), size, "app")
    return caught.value.message


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "", "a/./b", "a\0b", "a\nb", "a\x1bb", "é" * 200],
)
def test_a_path_that_is_not_plain(path: str) -> None:
    """Absolute, climbing, empty and unprintable paths are refused, and so are names no file system holds."""
    assert "path" in refused([entry(path)])


def test_sorted_and_unique() -> None:
    """Paths are unique, in the order of their characters."""
    assert refused([entry("b"), entry("a")]) == (
        "app.index: 'a': want paths sorted and unique, got it after 'b'"
    )
    assert refused([entry("a"), entry("a")]) == (
        "app.index: 'a': want paths sorted and unique, got it after 'a'"
    )


def test_a_file_is_no_directory() -> None:
    """One name cannot be a file and a directory."""
    assert refused([entry("a"), entry("a/b")]) == "app.index: 'a': is a file and a directory"
    assert refused([entry("a"), entry("a-b"), entry("a/b/c")]) == "app.index: 'a': is a file and a directory"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"offset": 0}, "app.index: 'b': want it at 4096, got 0, 5 bytes"),
        ({"offset": 4095}, "app.index: 'b': want it at 4096, got 4095, 5 bytes"),
        ({"offset": 8192}, "app.index: 'b': want it at 4096, got 8192, 5 bytes"),
        ({"offset": 4096, "size": -1}, "app.index: 'b': want it at 4096, got 4096, -1 bytes"),
        ({"offset": 4096, "size": 1 << 60}, f"app.index: 'b': want it at 4096, got 4096, {1 << 60} bytes"),
    ],
)
def test_one_layout(second: dict[str, object], message: str) -> None:
    """Files follow each other at the next page: no overlap, no room between them."""
    entries = [entry("a", size=10), entry("b", **{"size": 5, **second})]
    assert refused(entries, 4101) == message


def test_the_data_is_all_accounted_for() -> None:
    """An index that claims less, or more, data than there is is refused."""
    message = "app: want 10 bytes of data, as in its index, got 11"
    assert refused([entry("a", size=10)], 11) == message


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mode": 0o644}, "app.index: 'a': want mode 0o444 or 0o555, got 0o644"),
        ({"mode": 0o4555}, "app.index: 'a': want mode 0o444 or 0o555, got 0o4555"),
        ({"sha256": "0" * 63}, f"app.index: 'a': want a SHA-256 of 64 hex digits, got {'0' * 63!r}"),
        ({"sha256": "A" * 64}, f"app.index: 'a': want a SHA-256 of 64 hex digits, got {'A' * 64!r}"),
    ],
)
def test_modes_and_hashes(changed: dict[str, object], message: str) -> None:
    """A file is readable, or a program; nothing is writable or set-uid; a hash is lower-case hex."""
    assert refused([entry("a", **changed)]) == message


@pytest.mark.parametrize(
    "text",
    [
        b'[{"mode":292,"offset":0,"path":"a","sha256":"%s","size":0} ]',
        b'[{"offset":0,"mode":292,"path":"a","sha256":"%s","size":0}]',
        b'[{"mode":292,"mode":292,"offset":0,"path":"a","sha256":"%s","size":0}]',
        b'[{"mode":292,"offset":0,"path":"\\u0061","sha256":"%s","size":0}]',
        b'[{"mode":292,"more":1,"offset":0,"path":"a","sha256":"%s","size":0}]',
        b'[{"mode":292.0,"offset":0,"path":"a","sha256":"%s","size":0}]',
        b'{"%s":1}',
        b"[" * 100_000 + b"%s",
        b"\xff%s",
    ],
)
def test_one_spelling(text: bytes) -> None:
    """Another spelling of the same index is another file, and refused."""
    with pytest.raises(FormatError):
        layers.parse_index(text.replace(b"%s", ZERO.encode()), 0, "app")


def test_too_many_files() -> None:
    """An index of more than 200,000 files is refused."""
    many = [entry(f"{index:06}") for index in range(layers.MAX_FILES + 1)]
    assert refused(many) == "app.index: want at most 200000 files, got 200001"


@given(st.dictionaries(st.from_regex(r"[a-z]{1,3}(\.[a-z])?", fullmatch=True), st.integers(0, 10_000)))
def test_what_is_laid_out_is_read(files: dict[str, int]) -> None:
    """Any set of plain names lays out, and reads back sorted, aligned and apart."""
    index, size = layers.encode_index((path, 0o444, length, ZERO) for path, length in files.items())
    found = layers.parse_index(index, size, "app")
    assert [e.path for e in found] == sorted(files)
    assert all(e.offset % 4096 == 0 for e in found)
    assert [e.size for e in found] == [files[e.path] for e in found]
