"""Small image files that would exhaust the memory of a reader."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kluis.errors import FormatError
from kluis.hashes import sha256
from kluis.tee.image import canonical, layers, pyc
from kluis.tee.image.build import interpreter
from kluis.tee.image.build.changes import diff
from kluis.tee.image.sources import Source
from tests.tee.image import samples

EMPTY = sha256(b"").hex()


def test_folders_are_bounded() -> None:
    """Empty files in separate deep paths imply very many folders: a short index, gigabytes of names."""
    deep = "a/" * 500
    entries = [layers.Entry(0o444, 0, f"{number:06}/{deep}f", EMPTY, 0) for number in range(200)]
    index = canonical.encode(entries)
    assert len(index) < 1 << 20
    with pytest.raises(FormatError, match=f"want at most {layers.MAX_FOLDERS} folders, got more"):
        layers.parse_index(index, 0, "layer app")


def test_a_source_that_is_mostly_a_hole_is_not_read(tmp_path: Path) -> None:
    """A module of a terabyte, most of which its file does not hold, is not read to be compiled."""
    hole = Source("z.py", 0o444, 1 << 40, EMPTY, b"")
    contents = samples.contents(app={pyc.pyc_path("z.py", sys.implementation.cache_tag): b"code"})
    contents["app"].append(hole)
    before, after = tmp_path / "1.kluis", tmp_path / "2.kluis"
    python = interpreter.version()
    before.write_bytes(samples.image(samples.contents(), python=python))
    after.write_bytes(samples.image(contents, python=python))
    os.truncate(after, after.stat().st_size + hole.size)
    assert [change.what for change in diff(before, after) if change.kind == "hidden"] == [
        f"app/{pyc.pyc_path('z.py', sys.implementation.cache_tag)}"
    ]
