"""Folders above a path, of which another user may write one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kluis import parents
from kluis.errors import UnavailableError

NOBODY = 65534
HINT = "name another"
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives its folders to other users")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "above" / "folder"
    made.mkdir(parents=True, mode=0o700)
    made.parent.chmod(0o755)
    return made


def test_folders_of_this_user(folder: Path) -> None:
    """Existing or not, as a path from here, through links of this user, and back through a parent."""
    (folder.parent / "link").symlink_to(folder)
    (folder / "back").symlink_to("../folder")
    for path in (folder, folder / "new" / "file", folder / ".." / "folder", folder / "back" / "new"):
        parents.require(path, HINT)
    parents.require(folder.parent / "link" / "new", HINT)
    parents.require(Path(os.path.relpath(folder)), HINT)


@pytest.mark.parametrize("mode", [0o757, 0o777])
def test_a_folder_above_that_others_may_write(folder: Path, mode: int) -> None:
    folder.parent.chmod(mode)
    with pytest.raises(UnavailableError, match="above: others may replace what is in it") as refused:
        parents.require(folder, HINT)
    assert refused.value.code == "state_mode"
    assert refused.value.hint == f"chmod go-w {folder.parent}; or {HINT}"
    folder.parent.chmod(mode | 0o1000)
    parents.require(folder, HINT)


@ROOT
def test_a_folder_above_that_a_group_may_write(folder: Path) -> None:
    os.chown(folder.parent, 0, NOBODY)
    folder.parent.chmod(0o775)
    with pytest.raises(UnavailableError, match="others may replace"):
        parents.require(folder, HINT)
    os.chown(folder.parent, 0, 0)
    parents.require(folder, HINT)


@ROOT
@pytest.mark.parametrize("mode", [0o700, 0o1777])
def test_a_folder_above_of_another_user(folder: Path, mode: int) -> None:
    folder.parent.chmod(mode)
    os.chown(folder.parent, NOBODY, NOBODY)
    for path in (folder, folder / "new", folder.parent / "new", folder / ".." / ".." / "above" / "new"):
        with pytest.raises(UnavailableError, match="above: its owner may replace what is in it") as refused:
            parents.require(path, HINT)
        assert refused.value.code == "state_owner"


@ROOT
def test_a_link_of_another_user(folder: Path) -> None:
    """In a folder such as /tmp too: its owner chooses where it leads, although that place is safe."""
    folder.parent.chmod(0o1777)
    link = folder.parent / "link"
    link.symlink_to(folder)
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    for path in (link, link / "new"):
        with pytest.raises(UnavailableError, match="link: its owner may replace"):
            parents.require(path, HINT)


@ROOT
def test_a_link_into_a_folder_of_another_user(folder: Path, tmp_path: Path) -> None:
    """Although another link leads from there to a safe place, which is what the whole path means now."""
    theirs, link = tmp_path / "theirs", folder / "link"
    theirs.mkdir()
    (theirs / "back").symlink_to(folder)
    os.chown(theirs, NOBODY, NOBODY)
    link.symlink_to(theirs / "back")
    with pytest.raises(UnavailableError, match="theirs: its owner may replace"):
        parents.require(link / "new", HINT)


def test_links_that_lead_to_each_other(folder: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    with pytest.raises(UnavailableError, match="links: want at most 40, got more"):
        parents.require(folder / "a" / "new", HINT)
