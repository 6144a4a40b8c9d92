"""Another user, who can write where Kluis makes a folder of its own, and puts something in its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kluis.cleanroom.records import home
from kluis.errors import UnavailableError
from kluis.serve.plan import Plan
from kluis.serve.start import serving
from kluis.services.clock import SystemClock
from kluis.tee import places
from kluis.tee.image.build import cache
from kluis.tee.places import Places
from kluis.tee.platform import start
from kluis.tee.vm.machine import kept

NOBODY = 65534
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives its folders to other users")


@ROOT
def test_a_link_in_the_place_of_a_platforms_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the moment after it was made: what the link leads to keeps its owner and its mode."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    before, make = theirs.stat(), Path.mkdir

    def exchanged(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        make(path, mode, parents, exist_ok)
        if path.name == "state":
            path.rmdir()
            path.symlink_to(theirs)

    monkeypatch.setattr(Path, "mkdir", exchanged)
    with pytest.raises(
        UnavailableError, match="want the directory that was made, got another thing"
    ) as refused:
        places.prepare(Places(True, tmp_path / "state", tmp_path / "run"), NOBODY, NOBODY)
    assert refused.value.code == "state_owner"
    after = theirs.stat()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


@ROOT
def test_a_link_in_the_place_of_the_cache(tmp_path: Path) -> None:
    """Nothing is made where the link leads, which its owner chose."""
    theirs, link = tmp_path / "theirs", tmp_path / "kluis-cache-0"
    theirs.mkdir()
    link.symlink_to(theirs)
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(UnavailableError, match="kluis-cache-0: its owner may replace"):
        cache.at(link)
    assert list(theirs.iterdir()) == []


@ROOT
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_folder_of_another_user_for_services(tmp_path: Path, mode: int) -> None:
    """Its owner could exchange the images and the database in it: nothing is put there."""
    theirs = tmp_path / "services"
    theirs.mkdir(mode)
    os.chown(theirs, NOBODY, NOBODY)
    plan = Plan(services=("provisioning",), state=theirs)
    with (
        pytest.raises(UnavailableError, match=f"owner: want 0, got {NOBODY}"),
        serving(plan, SystemClock(), print),
    ):
        pass
    assert list(theirs.iterdir()) == []


@ROOT
def test_folders_in_a_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could exchange what Kluis makes there after every check of it: nothing is made."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(0o755)
    os.chown(theirs, NOBODY, NOBODY)
    monkeypatch.setenv("KLUIS_HOME", str(theirs / "home"))
    for make in (
        start.start,
        kept.folder,
        lambda: cache.at(theirs / "cache"),
        lambda: home.Home.create(theirs / "party", "clinic"),
    ):
        with pytest.raises(UnavailableError, match="theirs: its owner may replace what is in it"):
            make()
    assert list(theirs.iterdir()) == []


@ROOT
def test_services_behind_a_link_of_another_user(tmp_path: Path) -> None:
    """It leads to a folder of root's now, and elsewhere once that was checked."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir(0o700)
    (theirs / "services").symlink_to(ours)
    os.chown(theirs, NOBODY, NOBODY)
    plan = Plan(services=("provisioning",), state=theirs / "services")
    with (
        pytest.raises(UnavailableError, match="theirs: its owner may replace"),
        serving(plan, SystemClock(), print),
    ):
        pass
    assert list(ours.iterdir()) == []
