"""Files that are written whole or not at all, and files of others that are read within bounds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kluis import files
from kluis.collateral import folder
from kluis.errors import FormatError, UnavailableError, UsageError


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    """It has mode 0600, its folder 0700 if it is created, and no other file is left."""
    path = tmp_path / "new" / "one"
    for data in (b"old", b"new"):
        files.write(path, data)
        assert path.read_bytes() == data
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o600, 0o700]
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A write that fails leaves the old file, and no other."""
    path = tmp_path / "one"
    files.write(path, b"old")
    with pytest.raises(TypeError):
        files.write(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes while the file is brought to the disk ends the program, and leaves no part of it."""

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "one", b"new")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_is_not_taken_for_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes when the file has its place already ends the program, and leaves the file there."""
    replace = os.replace

    def late(source: str, target: str, **folders: int) -> None:
        replace(source, target, **folders)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", late)
    with pytest.raises(KeyboardInterrupt):
        folder.write(tmp_path / "one", b"new")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"new"]


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    """A file as long as it may be is read; one byte more, and it is refused with the bound."""
    path = tmp_path / "one"
    path.write_bytes(b"12345")
    assert files.read(path, 5) == b"12345"
    with pytest.raises(FormatError) as caught:
        files.read(path, 4)
    assert (caught.value.message, caught.value.code) == (
        f"{path}: want at most 4 bytes, got more",
        "too_large",
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("link", "want a regular file, got a link"),
        ("fifo", "want a regular file, got another thing"),
        ("folder", "want a regular file, got another thing"),
        ("nothing", "cannot be opened: No such file or directory"),
    ],
)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str, message: str) -> None:
    """What others put in a file's place is neither followed nor waited for, and no descriptor stays open."""
    path = tmp_path / "one"
    if kind == "link":
        (tmp_path / "other").write_bytes(b"secret")
        path.symlink_to("other")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(UnavailableError) as caught:
        files.read(path, 5)
    assert caught.value.message == f"{path}: {message}"
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_file_that_a_user_names(tmp_path: Path) -> None:
    """A link is followed; one that cannot be read, or is too long, is refused by its name."""
    path, link = tmp_path / "one", tmp_path / "link"
    path.write_bytes(b"four")
    link.symlink_to(path)
    assert files.read_named(link, 4) == b"four"
    with pytest.raises(FormatError) as long:
        files.read_named(link, 3)
    assert str(long.value) == f"{link}: want at most 3 bytes, got more"
    with pytest.raises(UsageError) as absent:
        files.read_named(tmp_path / "none", 4)
    assert str(absent.value) == f"{tmp_path}/none: cannot be read: No such file or directory"
    with pytest.raises(UsageError), files.named(path):
        raise OSError(5, "Input/output error")
