"""Layers measured again: whatever was changed, added or taken away where they are unpacked is found."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from kluis.tee.platform.launching import remeasure
from kluis.tee.platform.launching.remeasure import File, Watched

NAMES = ("lib/libz.so.1", "lib/data/table.bin", "app.py")


@pytest.fixture
def layer(tmp_path: Path) -> Watched:
    """A layer as it was unpacked."""
    files = []
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        files.append(File(name, hashlib.sha256(name.encode()).hexdigest(), len(name)))
    return remeasure.select_files(tmp_path, "/k/app", tuple(files))


def test_nothing_was_changed(layer: Watched) -> None:
    """A module is measured inside, as it is imported; the rest is here, and as it was."""
    assert [file.path for file in layer.files] == ["lib/libz.so.1", "lib/data/table.bin"]
    assert remeasure.find_change([layer]) is None


@pytest.mark.parametrize("name", ["lib/libz.so.1", "lib/data/table.bin"])
def test_a_file_is_changed_or_gone(layer: Watched, name: str) -> None:
    """Other bytes of the same size, and no file."""
    path = layer.directory / name
    path.write_text("x" * len(name))
    assert remeasure.find_change([layer]) == (layer.directory, name)
    path.unlink()
    assert remeasure.find_change([layer]) == (layer.directory, name)


def test_something_was_added(layer: Watched) -> None:
    """A file more, and a link: to a file, to nothing, to a folder in which the loader would look."""
    added = layer.directory / "lib" / "glibc-hwcaps"
    for make in (
        lambda: added.write_text("x"),
        lambda: added.symlink_to("libz.so.1"),
        lambda: added.symlink_to("/nowhere"),
        lambda: added.symlink_to("data", target_is_directory=True),
    ):
        make()
        assert remeasure.find_change([layer]) == (layer.directory, "lib/glibc-hwcaps")
        added.unlink()
    assert remeasure.find_change([layer]) is None
