"""The closure of libraries: whole, as the loader would find it, and the same for every image."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from kluis.tee.image import closure

DYNLOAD = Path(sysconfig.get_path("stdlib")) / "lib-dynload"


def test_a_program_and_all_it_needs() -> None:
    """Every library that ldd names for a real program is in its closure, from the same file."""
    program = Path("/usr/bin/env")
    found = closure.find({"bin/env": program}).libraries
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if arrow:
            assert found[name].resolve() == Path(rest.split(" ")[0]).resolve()


def test_extension_modules_of_the_interpreter() -> None:
    """The closure of an extension module holds what ldd finds for it, and libpython if it asks."""
    (ssl,) = DYNLOAD.glob("_ssl.*.so")
    found = closure.find({"lib/_ssl.so": ssl})
    assert {"libssl.so.3", "libcrypto.so.3", "libc.so.6", "ld-linux-x86-64.so.2"} <= found.libraries.keys()
    assert found.missing == {}


def test_the_same_base_for_every_image() -> None:
    """What wheels count on finding anywhere is there even if nothing asks for it yet."""
    found = closure.find({}).libraries
    assert {"libgcc_s.so.1", "libstdc++.so.6", "libm.so.6", "libdl.so.2", "librt.so.1"} <= found.keys()


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """``libouter.so`` needs ``libinner.so``, which lies in ``inner/``, by RUNPATH or not at all."""
    compiler = subprocess.run(["which", "gcc"], capture_output=True, text=True, check=False).stdout.strip()
    if not compiler:
        pytest.skip("no gcc on this machine")
    (tmp_path / "inner").mkdir()
    (tmp_path / "c.c").write_text("int f(void) { return 1; }\n")
    source = str(tmp_path / "c.c")
    base = [compiler, "-shared", "-fPIC", source]
    subprocess.run([*base, "-o", str(tmp_path / "inner" / "libinner.so")], check=True)
    needs = ["-Wl,--no-as-needed", "-L", str(tmp_path / "inner"), "-linner"]
    path = ["-Wl,-rpath,$ORIGIN/inner", "-Wl,--enable-new-dtags"]
    subprocess.run([*base, *needs, *path, "-o", str(tmp_path / "libouter.so")], check=True)
    subprocess.run([*base, *needs, "-o", str(tmp_path / "liblost.so")], check=True)
    return tmp_path


def test_origin_is_followed(objects: Path) -> None:
    """$ORIGIN in an object's own path is the folder that the object lies in."""
    found = closure.find({"site/libouter.so": objects / "libouter.so"})
    assert found.libraries["libinner.so"] == objects / "inner" / "libinner.so"
    assert found.missing == {}


def test_what_the_image_holds_is_not_carried_twice(objects: Path) -> None:
    """A library that another layer provides by name is not taken from this machine."""
    found = closure.find(
        {"site/libouter.so": objects / "libouter.so", "site/i/libinner.so": objects / "inner" / "libinner.so"}
    )
    assert "libinner.so" not in found.libraries


def test_what_is_not_found_is_said(objects: Path) -> None:
    """A library that cannot be found is named, with who asked for it."""
    found = closure.find({"site/liblost.so": objects / "liblost.so"})
    assert found.missing == {"libinner.so": ["site/liblost.so"]}


def test_other_files_are_passed_over() -> None:
    """A file that is no object for this machine asks for nothing."""
    assert closure.find({"a.so": Path(__file__)}).missing == {}
    assert sys.platform == "linux"
