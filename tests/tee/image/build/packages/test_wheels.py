"""Wheels, read strictly: an extra file, a missing one, a hook or a lie in RECORD is refused."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from kluis.errors import AuthenticityError, FormatError, KluisError, UnsupportedError, UsageError
from kluis.tee.image.build.packages import wheels
from tests.tee.image import samples

FILES = {"a/__init__.py": b"x = 1\n", "a/data.bin": b"\0" * 5000}


def test_what_goes_into_an_image(tmp_path: Path) -> None:
    """Its files and its METADATA go in; RECORD and who installed it do not."""
    wheel = samples.wheel(tmp_path, "a", FILES)
    found = wheels.unpack(wheel, tmp_path / "files").files
    assert {file.path: file.read() for file in found} == {
        **FILES,
        "a-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: a\nVersion: 1.0\n",
    }
    assert {file.mode for file in found} == {0o444}


def test_unpacked_files_are_checked_again(tmp_path: Path) -> None:
    """What an earlier build unpacked is used only as far as it still has RECORD's hash."""
    wheel = samples.wheel(tmp_path, "a", FILES)
    wheels.unpack(wheel, tmp_path / "files")
    (tmp_path / "files" / "a" / "__init__.py").write_bytes(b"x = 2\n")
    (tmp_path / "files" / "a" / "extra.py").write_bytes(b"evil = 1\n")
    (tmp_path / "files" / "linked").symlink_to("/")
    found = wheels.unpack(wheel, tmp_path / "files").files
    assert {file.path: file.read() for file in found}["a/__init__.py"] == b"x = 1\n"
    assert not (tmp_path / "files" / "a" / "extra.py").exists()
    assert not (tmp_path / "files" / "linked").is_symlink()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"sitecustomize.py": b""},
            "a-1.0-py3-none-any.whl: sitecustomize.py: want no sitecustomize, which would run code at start",
        ),
        (
            {"a/m.pyc": b""},
            "a-1.0-py3-none-any.whl: a/m.pyc: want source, got bytecode that nobody can review",
        ),
    ],
)
def test_what_an_image_does_not_take(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    """Start-up hooks and bare bytecode are refused, with their names."""
    with pytest.raises(UsageError) as caught:
        wheels.unpack(samples.wheel(tmp_path, "a", {**FILES, **files}), tmp_path / "files")
    assert caught.value.message == message


def test_scripts_are_left_out(tmp_path: Path) -> None:
    """Console scripts stay outside: nothing starts a program inside."""
    wheel = samples.wheel(tmp_path, "a", {**FILES, "a-1.0.data/scripts/run": b"#!/bin/sh\n"})
    unpacked = wheels.unpack(wheel, tmp_path / "files")
    assert not any("run" in file.path for file in unpacked.files)
    assert unpacked.notes == []


def test_what_is_left_out_is_reported(tmp_path: Path) -> None:
    """A .pth file, which nothing inside reads, and files outside packages are left out, with a note."""
    more = {
        "a.pth": b"import os\n",
        "a-1.0.data/purelib/x.pth": b"import os\n",
        "a-1.0.data/data/share/man/man1/a.1": b"",
        "a-1.0.data/headers/a.hh": b"",
        "a-1.0.data/headers/b.hh": b"",
    }
    unpacked = wheels.unpack(samples.wheel(tmp_path, "a", {**FILES, **more}), tmp_path / "files")
    assert {file.path for file in unpacked.files} == {*FILES, "a-1.0.dist-info/METADATA"}
    assert not list((tmp_path / "files").rglob("*.pth"))
    assert unpacked.notes == [
        "a-1.0-py3-none-any.whl: a.pth and 1 more are left out: the interpreter inside reads no .pth file",
        "a-1.0-py3-none-any.whl: a-1.0.data/data/share/man/man1/a.1 and 2 more are left out: "
        "an image has a place for packages only",
    ]


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("*.pyc", "a/m.pyc"), ("sitecustomize.py", "sitecustomize.py"), ("*.data/data/*", "a-1.0.data/data/x")],
)
def test_what_is_excluded_is_not_judged(tmp_path: Path, pattern: str, path: str) -> None:
    """requirements_exclude comes first: what it leaves out is neither refused nor reported."""
    unpacked = wheels.unpack(
        samples.wheel(tmp_path, "a", {**FILES, path: b""}), tmp_path / "files", (pattern,)
    )
    assert {file.path for file in unpacked.files} == {*FILES, "a-1.0.dist-info/METADATA"}
    assert unpacked.notes == []


def test_an_unknown_kind_of_data(tmp_path: Path) -> None:
    """The .data folder has five kinds of files; another is refused."""
    wheel = samples.wheel(tmp_path, "a", {**FILES, "a-1.0.data/lib/x": b""})
    with pytest.raises(
        FormatError, match=r"want one of purelib, platlib, scripts, headers, data, got 'lib'$"
    ):
        wheels.unpack(wheel, tmp_path / "files")


def test_an_extra_file(tmp_path: Path) -> None:
    """A file that RECORD does not name is refused."""
    wheel = samples.wheel(tmp_path, "a", FILES, unrecorded={"a/extra.py": b"evil = 1\n"})
    with pytest.raises(FormatError) as caught:
        wheels.unpack(wheel, tmp_path / "files")
    assert caught.value.message == "a-1.0-py3-none-any.whl: a/extra.py: is not in its RECORD"


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that RECORD names and the wheel does not hold is refused."""
    good = samples.wheel(tmp_path, "a", {**FILES, "a/gone.py": b""})
    with zipfile.ZipFile(good) as archive:
        record = archive.read("a-1.0.dist-info/RECORD").decode()
    wheel = samples.wheel(tmp_path / "other", "a", FILES, record=record)
    with pytest.raises(FormatError) as caught:
        wheels.unpack(wheel, tmp_path / "files")
    assert caught.value.message == "a-1.0-py3-none-any.whl: a/gone.py: is in its RECORD and nowhere else"


def test_a_changed_file(tmp_path: Path) -> None:
    """A file that does not match RECORD is refused, and not left in the cache."""
    good = samples.wheel(tmp_path, "a", FILES)
    with zipfile.ZipFile(good) as archive:
        record = archive.read("a-1.0.dist-info/RECORD").decode()
    changed = samples.wheel(tmp_path / "other", "a", {**FILES, "a/__init__.py": b"x = 2\n"}, record=record)
    with pytest.raises(AuthenticityError) as caught:
        wheels.unpack(changed, tmp_path / "files")
    assert caught.value.message == "a-1.0-py3-none-any.whl: a/__init__.py: does not match its RECORD"
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


def test_a_file_that_climbs_out(tmp_path: Path) -> None:
    """A path that climbs out of the folder is refused before anything is written."""
    with pytest.raises(FormatError, match="want a plain relative path"):
        wheels.unpack(samples.wheel(tmp_path, "a", {"../../evil.py": b""}), tmp_path / "files")
    assert not (tmp_path / "evil.py").exists()


def test_a_link_in_a_wheel(tmp_path: Path) -> None:
    """A symbolic link in a wheel is refused."""
    wheel = samples.wheel(tmp_path, "a", FILES)
    with zipfile.ZipFile(wheel, "a") as archive:
        member = zipfile.ZipInfo("a/link")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(UsageError) as caught:
        wheels.unpack(wheel, tmp_path / "files")
    assert (
        caught.value.message == "a-1.0-py3-none-any.whl: a/link: want a regular file, got a link or a device"
    )


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ("a/__init__.py,,\n", UnsupportedError),
        ("a/__init__.py,md5=abc,1\n", UnsupportedError),
        ("a/__init__.py\n", FormatError),
        ("a/__init__.py,sha256=!!!,1\n", FormatError),
        (
            "a/__init__.py,sha256=" + "A" * 43 + ",1\n" + "a/__init__.py,sha256=" + "A" * 43 + ",1\n",
            FormatError,
        ),
        ('"', FormatError),
    ],
)
def test_a_record_that_is_none(tmp_path: Path, record: str, error: type[KluisError]) -> None:
    """A RECORD without hashes, with weak ones, twice the same or cut short is refused."""
    with pytest.raises(error):
        wheels.unpack(samples.wheel(tmp_path, "a", FILES, record=record), tmp_path / "files")


@pytest.mark.parametrize("at", range(0, 900, 31))
def test_only_our_errors_escape(tmp_path: Path, at: int) -> None:
    """A wheel with a damaged byte gives the files it was locked with, or one of our errors."""
    wheel = samples.wheel(tmp_path, "a", FILES)
    data = bytearray(wheel.read_bytes())
    data[-at % len(data)] ^= 0x41
    wheel.write_bytes(data)
    try:
        wheels.unpack(wheel, tmp_path / "files")
    except KluisError:
        return
