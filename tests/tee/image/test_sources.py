"""Files on their way into a layer: read once, hashed, and nothing that leads elsewhere."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kluis.errors import AuthenticityError, UnavailableError, UsageError
from kluis.tee.image import sources


def names(folder: Path) -> list[str]:
    return [path for path, _ in sources.walk(folder, lambda path, folder: True)]


def test_walks_in_order(tmp_path: Path) -> None:
    """Files come by path, whatever order the disk gives them in."""
    for name in ("b.py", "a/z.py", "a/b/c.py", "a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert names(tmp_path) == ["a.py", "b.py", "a/z.py", "a/b/c.py"]


def test_a_link_to_a_file_is_its_bytes(tmp_path: Path) -> None:
    """A link is followed, and the bytes behind it are what is measured."""
    (tmp_path / "model.bin").write_bytes(b"weights")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "link").symlink_to("../model.bin")
    (path, origin) = next(sources.walk(tmp_path / "app", lambda path, folder: True))
    assert sources.of_file(path, origin).read() == b"weights"


def test_a_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    """A link to a folder could lead anywhere, and round in circles."""
    (tmp_path / "loop").symlink_to(".")
    with pytest.raises(UsageError) as caught:
        names(tmp_path)
    assert caught.value.message == f"{tmp_path}/loop: is a link to a directory"
    assert caught.value.hint == "copy it, or exclude it"


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    """A named pipe among the files is an error, not a hang."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError) as caught:
        sources.of_file("pipe", tmp_path / "pipe")
    assert caught.value.message == f"{tmp_path}/pipe: want a regular file, got something else"


@pytest.mark.parametrize("name", [b"a\nb", b"\xff\xfe", b"\x1b[31m"])
def test_a_name_that_cannot_stand_in_an_index(tmp_path: Path, name: bytes) -> None:
    """A file whose name is no printable text is refused, not dropped."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="its name is not allowed in an image"):
        sources.of_file(path.name, path)


@pytest.mark.parametrize("after", [b"other", b"shorter", b"", b"longer than it was"])
def test_a_file_that_changes(tmp_path: Path, after: bytes) -> None:
    """What is copied is what was hashed, or nothing."""
    path = tmp_path / "a"
    path.write_bytes(b"first")
    made = sources.of_file("a", path)
    assert made.read() == b"first"
    path.write_bytes(after)
    with pytest.raises(AuthenticityError) as caught:
        made.read()
    assert caught.value.message == f"{path}: changed while the image was built"


@pytest.mark.parametrize(
    "path", ["x.pth", "a/b.pth", "sitecustomize.py", "usercustomize/__init__.py", "sitecustomize.so", "m.pyc"]
)
def test_what_runs_unasked(path: str) -> None:
    """Start-up hooks of the interpreter, and bytecode that came without source, are refused."""
    with pytest.raises(sources.HookError):
        sources.refuse_hooks(path, "here")


def test_what_only_looks_like_it() -> None:
    """A module inside a package may be called what it likes; no interpreter runs it unasked."""
    for path in ("a/sitecustomize.py", "site.py", "pth.py", "a.pth.txt"):
        sources.refuse_hooks(path, "here")


def test_a_full_disk_is_not_the_fault_of_what_is_read(tmp_path: Path) -> None:
    """Where the copy cannot be written, that is said, and not that the file cannot be read."""

    def full(data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(UnavailableError) as caught:
        sources.of_file("a", tmp_path / "a").copy(full)
    assert caught.value.message == "the copy cannot be written: No space left on device"
