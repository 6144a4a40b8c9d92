"""What an index states is found in it; bytecode is measured; what cannot be measured is, the next time."""

from __future__ import annotations

import errno
import hashlib
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis import measured
from kluis.errors import FormatError
from kluis.tee.image import layers

WITHOUT_DESCRIPTORS = """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
try:
    measured.check_library(path)
except OSError as error:
    found = error.errno
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(found, flush=True)
measured.check_library(path)
print("loaded")
"""
ABSENT = """
import os
os.rename(path, path + ".hidden")
measured.check_library(path)
os.rename(path + ".hidden", path)
print("absent", flush=True)
measured.check_library(path)
print("loaded")
"""


def run(folder: Path, code: str, data: bytes = b"another library") -> subprocess.CompletedProcess[str]:
    """Run code with ``path``, a file that is not the measured one."""
    path = folder / "lib.so"
    path.write_bytes(data)
    head = "import sys\nfrom kluis import measured\npath = sys.argv[1]\n"
    head += (
        "measured.ROOT = path.removesuffix('lib.so')\nmeasured._indexes[sys.argv[2]] = sys.argv[3].encode()\n"
    )
    mount = "/".join(str(path).split("/", 3)[:3])
    index, _ = layers.encode_index([(str(path.relative_to(mount)), 0o444, len(data), "0" * 64)])
    line = [sys.executable, "-c", head + code, str(path), mount, index.decode()]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_a_library_is_measured_at_the_next_try(tmp_path: Path) -> None:
    """With no descriptor left a library is not loaded, and the next import measures it."""
    done = run(tmp_path, WITHOUT_DESCRIPTORS)
    assert done.stdout.split() == [str(errno.EMFILE)]
    assert done.returncode == measured.CHANGED


def test_a_library_that_comes_later_is_measured(tmp_path: Path) -> None:
    """A library that was hidden at its first import is measured at the second."""
    done = run(tmp_path, ABSENT)
    assert done.stdout.split() == ["absent"]
    assert done.returncode == measured.CHANGED


NAMES = st.text('ab/"\\\u00e9:,{}', min_size=1, max_size=12)


@given(st.lists(NAMES, max_size=12), NAMES)
def test_a_file_is_found_in_its_index(paths: list[str], other: str) -> None:
    """Each file that an index has is found with its digest and size, and no other is."""
    files = {path: (hashlib.sha256(path.encode()).hexdigest(), len(path)) for path in paths}
    try:
        index, _ = layers.encode_index((path, 0o444, size, digest) for path, (digest, size) in files.items())
    except FormatError:  # not plain, or a file and a folder
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "_indexes", {"/k/app": index})
        for path in (*files, other):
            want = (files[path][0].encode(), files[path][1]) if path in files else None
            assert measured._find(f"/k/app/{path}") == want
        for name in {path.rpartition("/")[2] for path in (*files, other)}:
            want_paths = sorted(f"/k/app/{path}" for path in files if path.rpartition("/")[2] == name)
            assert sorted(measured._paths_of(name)) == want_paths
        assert measured._find(f"/k/site/{other}") is None


IMPORT = """
import os, sys
from kluis import measured
folder, mount, index = sys.argv[1:4]
head = f"{mount} {len(index.encode())}\\n".encode()
descriptor = os.memfd_create("indexes")
os.write(descriptor, head + index.encode())
measured.arm(descriptor)
measured.ROOT = folder
sys.path.insert(0, folder)
import found
print(found.WHAT, flush=True)
import added
"""


@pytest.mark.parametrize("how", ["as measured", "changed", "longer", "shorter"])
def test_bytecode_is_measured(tmp_path: Path, how: str) -> None:
    """A module runs if its bytecode is the measured one, and ends the process otherwise; so does one more."""
    source, mount = tmp_path / "found.py", "/".join(str(tmp_path).split("/", 3)[:3])
    source.write_text("WHAT = 'measured'\n")
    pyc = Path(
        py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH) or ""
    )
    data = pyc.read_bytes()
    index, _ = layers.encode_index(
        (
            str(path.relative_to(mount)),
            0o444,
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in (source, pyc)
    )
    (tmp_path / "added.py").write_text("print('code of root')")
    changed = {"as measured": data, "changed": data.replace(b"measured", b"modified")}
    pyc.write_bytes(changed.get(how, data + b"x" if how == "longer" else data[:-1]))
    line = [sys.executable, "-B", "-c", IMPORT, str(tmp_path), mount, index.decode()]
    done = subprocess.run(line, capture_output=True, text=True, check=False)

    runs = how in {"as measured", "longer"}  # what is after the measured bytes is not read
    assert (done.returncode, done.stdout.split()) == (measured.CHANGED, ["measured"] if runs else [])
    assert f"{'added.py' if runs else pyc.name}: is not the measured file" in done.stderr
