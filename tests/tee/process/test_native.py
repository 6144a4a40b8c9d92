"""The C parts: built on this machine, by gcc or by zig, or a clear word of what is missing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.tee.image.manifest import MOUNTS
from kluis.tee.process import native


def test_guardian_is_static() -> None:
    """The guardian needs no loader and no library of the machine's."""
    said = subprocess.run(["readelf", "-d", native.guardian()], capture_output=True, text=True, check=False)

    assert "NEEDED" not in said.stdout


def test_the_launcher_finds_the_layer_where_images_put_it() -> None:
    """The interpreter's layer is mounted where the launcher was linked to look."""
    assert MOUNTS["python"] == native.PYTHON


def test_launcher_looks_only_inside() -> None:
    """The launcher's loader and libraries are those of the image."""
    said = subprocess.run(
        ["readelf", "-dl", native.launcher()], capture_output=True, text=True, check=True
    ).stdout

    assert "/k/python/lib/ld-linux-x86-64.so.2" in said
    assert re.search(r"Library (rpath|runpath): \[/k/python/lib\]", said)


def test_version_covers_every_part() -> None:
    """32 bytes over guardian and launchers."""
    assert len(native.version()) == 32
    assert native.launcher_digests()


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither gcc nor zig: it says so, and how to mend it."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError) as refused:
        native.compiler()

    assert refused.value.message == "C compiler: want gcc or ziglang, found neither"
    assert refused.value.hint == "apt-get install gcc libc6-dev, or pip install ziglang"


@pytest.mark.slow
def test_zig_builds_it_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is no gcc, zig from PyPI builds both parts, and the guardian runs."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed: pip install ziglang")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    _, guardian = native.build(tmp_path)
    done = subprocess.run([guardian], capture_output=True, text=True, check=False)

    assert done.returncode == 70
    assert done.stderr.startswith("kluis-guardian: arguments")


def test_guardian_alone_refuses(tmp_path: Path) -> None:
    """Without arguments neither part does anything."""
    done = subprocess.run([native.guardian()], capture_output=True, text=True, check=False, env={}, cwd="/")

    assert (done.returncode, os.path.basename(done.stderr.split(":")[0])) == (70, "kluis-guardian")


def test_a_part_that_is_missing_comes_from_where_kluis_came(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The line that builds it asks no index for a package of that name: whose it would be, nobody knows."""
    monkeypatch.setattr(native, "BIN", tmp_path)
    with pytest.raises(UnavailableError) as caught:
        native.guardian()

    assert caught.value.message == "kluis-guardian: not built on this machine"
    assert caught.value.hint is not None
    assert caught.value.hint.endswith(" --no-deps KLUIS, the folder or wheel that Kluis came from")
