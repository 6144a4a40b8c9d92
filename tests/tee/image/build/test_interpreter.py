"""The base layer: CPython whole, from the installed runtime and from nowhere on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kluis import installing
from kluis.errors import AuthenticityError, UnavailableError
from kluis.tee.image import sources
from kluis.tee.image.build import cache, elf, interpreter
from kluis.tee.process import native
from tests.tee.image import samples

BASE = {file.path: file for file in interpreter.base()}
HOME = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"


def test_what_is_there() -> None:
    """The library, its packages, its extension modules, and bytecode for every module."""
    for path in ("os.py", "encodings/utf_8.py", "asyncio/tasks.py", "json/__init__.py", "unittest/mock.py"):
        assert f"{HOME}/{path}" in BASE
        folder, _, name = f"{HOME}/{path}".rpartition("/")
        assert f"{folder}/__pycache__/{name[:-3]}.{sys.implementation.cache_tag}.pyc" in BASE
    assert any(path.startswith(f"{HOME}/lib-dynload/_ssl.") for path in BASE)
    assert {"lib/libc.so.6", "lib/libssl.so.3", "lib/libcrypto.so.3", "lib/libstdc++.so.6"} <= BASE.keys()
    programs = {path for path, file in BASE.items() if file.mode == 0o555}
    assert programs == {"bin/kluis-launcher", "lib/ld-linux-x86-64.so.2"}


@pytest.mark.parametrize(
    "part",
    [
        "/test/",
        "/tests/",
        "idlelib",
        "tkinter",
        "ensurepip",
        "/config-",
        "site-packages",
        "dist-packages",
        "sitecustomize",
        ".pth",
        "_testcapi",
        "_tkinter",
        "lib-dynload/readline.",
    ],
)
def test_what_is_left_out(part: str) -> None:
    """Tests, screens, installers, hooks and what others installed are not."""
    assert [path for path in BASE if part in path] == []


def test_every_object_finds_its_libraries_in_the_layer(tmp_path: Path) -> None:
    """Each extension module, each library and the launcher, and Kluis's own part, need only what is there."""
    held = {path.rpartition("/")[2] for path in BASE}
    for file in (*BASE.values(), *interpreter.inside()):
        if ".so" in file.path or file.path == "bin/kluis-launcher":
            (tmp_path / "object").write_bytes(file.read())
            found = elf.read(tmp_path / "object")
            assert found is not None, file.path
            assert set(found.needed) <= held, file.path


def test_the_layer_runs_by_itself() -> None:
    """Laid out in a folder, the interpreter starts and loads no library from elsewhere."""
    tree = str(samples.python().tree)
    code = (
        "import ssl, sqlite3, ctypes, decimal, lzma, bz2, uuid, hashlib, platform, sys\n"
        f"assert ssl.__file__.startswith({tree!r}), ssl.__file__\n"
        "maps = {line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}\n"
        f"assert all(path.startswith({os.path.realpath(tree)!r}) for path in maps), maps\n"
        "print(platform.python_version())"
    )
    command = samples.python().command("-c", code)
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (interpreter.version(), "")


def test_a_tree_that_was_changed_is_laid_out_again(tmp_path: Path) -> None:
    """A changed, removed or added file in the cache does not reach the next build."""
    store = cache.at(tmp_path / "cache")
    with store.work() as work:
        tree = interpreter.lay(store, work).tree
    good = (tree / HOME / "os.py").read_bytes()
    (tree / HOME / "os.py").chmod(0o644)
    for change in (
        lambda: (tree / HOME / "os.py").write_bytes(b"raise SystemExit\n"),
        lambda: (tree / HOME / "json/__init__.py").unlink(),
        lambda: (tree / HOME / "sitecustomize.py").write_text("raise SystemExit\n"),
    ):
        change()
        with store.work() as work:
            assert interpreter.lay(store, work).tree == tree
        assert (tree / HOME / "os.py").read_bytes() == good
        assert (tree / HOME / "json/__init__.py").exists()
        assert not (tree / HOME / "sitecustomize.py").exists()
        (tree / HOME / "os.py").chmod(0o644)


def test_two_builds_at_once_extract_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second build waits and uses the first one's tree: it does not remove what the first one runs."""
    store, write, whole = cache.at(tmp_path / "cache"), interpreter.write, interpreter._whole
    writing, checked, written = threading.Event(), threading.Event(), []

    def slow_write(folder: Path, files: Iterable[sources.Source]) -> None:
        written.append(folder)
        writing.set()
        checked.wait(1)  # never set if the second build waits, as it should
        write(folder, files)

    def noticed(place: Path, want: Mapping[str, str]) -> bool:
        if writing.is_set():
            checked.set()
        return whole(place, want)

    def lay() -> Path:
        with store.work() as work:
            return interpreter.lay(store, work).tree

    monkeypatch.setattr(interpreter, "write", slow_write)
    monkeypatch.setattr(interpreter, "_whole", noticed)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lay)
        assert writing.wait(300)
        assert pool.submit(lay).result() == first.result()
    assert len(written) == 1


@pytest.mark.parametrize("place", ["index", "data"])
def test_a_runtime_that_was_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A base layer that is not what its release has goes into no image: neither its index nor its files."""
    changed = tmp_path / "kluis_runtime"
    shutil.copytree(native.folder(), changed)
    at = 100 if place == "index" else next(iter(BASE.values())).offset + 5
    with (changed / "python.layer").open("r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))
    monkeypatch.setattr(native, "folder", lambda: changed)
    with pytest.raises(AuthenticityError):
        _ = [file.read() for file in interpreter.base()]


def test_a_library_that_no_layer_has(tmp_path: Path) -> None:
    """A library that an object needs and no layer has is named, with the objects that need it."""
    loader = tmp_path / "ld"
    loader.write_bytes(BASE["lib/libssl.so.3"].read())
    files = [file for path, file in BASE.items() if path != "lib/libcrypto.so.3"]
    assert interpreter.missing({"site/a.so": loader}, files) == {"libcrypto.so.3": ["site/a.so"]}
    assert interpreter.missing({"site/a.so": loader}, BASE.values()) == {}


def test_no_hook_is_in_it() -> None:
    """No file of the layer is one that an interpreter runs unasked."""
    for path in BASE:
        if "__pycache__" not in path:
            sources.refuse_hooks(path, "python")


def test_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without kluis-runtime, the error names what installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnavailableError) as caught:
        interpreter.base()
    assert caught.value.message == "kluis-runtime: not installed, and images and enclaves need it"
    assert caught.value.hint == installing.command_for("enclave")
