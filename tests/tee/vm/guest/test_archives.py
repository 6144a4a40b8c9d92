"""Archives state paths, modes and contents, and nothing of the machine."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from kluis.tee.image import sources
from kluis.tee.vm.guest import archives

FILES = (
    sources.of_bytes("b/c/program", b"code", 0o755),
    sources.of_bytes("a", b"12345"),
    sources.of_bytes("b/data", b""),
)


def test_folders_come_before_what_they_contain() -> None:
    """Each folder is listed once, after its own."""
    assert archives.folders_of(["a/b/c", "a/d", "e"]) == ["a", "a/b"]


def test_a_tar_has_no_owner_and_no_time() -> None:
    """Everything is root's and of 1970, in the order of the paths, whatever the order of the files."""
    one, other = io.BytesIO(), io.BytesIO()
    archives.tar(FILES, ["proc"], one)
    archives.tar(reversed(FILES), ["proc"], other)
    assert one.getvalue() == other.getvalue()
    one.seek(0)
    with tarfile.open(fileobj=one) as archive:
        found = archive.getmembers()
    assert [(each.name, each.mode, each.isdir()) for each in found] == [
        ("b", 0o755, True),
        ("b/c", 0o755, True),
        ("proc", 0o755, True),
        ("a", 0o444, False),
        ("b/c/program", 0o755, False),
        ("b/data", 0o444, False),
    ]
    assert {(each.uid, each.gid, each.mtime, each.uname, each.gname) for each in found} == {(0, 0, 0, "", "")}


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio")
def test_cpio_reads_an_archive(tmp_path: Path) -> None:
    """The program cpio extracts the same files, modes and contents."""
    data = archives.cpio(FILES)
    assert data == archives.cpio(reversed(FILES))
    subprocess.run(["cpio", "-i", "--quiet", "-D", tmp_path], input=data, check=True)
    found = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: each.read_bytes() for path, each in found.items()} == {
        file.path: file.read() for file in FILES
    }
    assert {path: each.stat().st_mode & 0o777 for path, each in found.items()} == {
        file.path: file.mode for file in FILES
    }
