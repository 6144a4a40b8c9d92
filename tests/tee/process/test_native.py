"""The runtime's programs: where they look, what they refuse, and that they are the release's."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kluis.errors import AuthenticityError, UnavailableError
from kluis.tee.image.build import elf, interpreter
from kluis.tee.image.manifest import LAUNCHER, MOUNTS
from kluis.tee.process import linux, native


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    """The launcher, as a file."""
    path = tmp_path / "launcher"
    path.write_bytes(next(file for file in interpreter.base() if file.path == LAUNCHER).read())
    path.chmod(0o755)
    return path


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the installed runtime, which may be changed."""
    folder = tmp_path / "kluis_runtime"
    folder.mkdir()
    for name in ("runtime.json", "kluis-guardian", "kluis-init", "python"):
        shutil.copy(native.folder() / name, folder / name)
    monkeypatch.setattr(native, "folder", lambda: folder)
    return folder


@pytest.mark.parametrize("program", [native.guardian, native.init])
def test_guardian_and_init_are_static(program: Callable[[], Path]) -> None:
    """Neither needs a loader or a library of the machine's."""
    said = subprocess.run(["readelf", "-dl", program()], capture_output=True, text=True, check=False)

    assert "LOAD" in said.stdout
    assert "NEEDED" not in said.stdout
    assert "INTERP" not in said.stdout


def test_init_only_starts_a_guest() -> None:
    """Started on a machine that runs, it changes nothing and ends."""
    done = subprocess.run([native.init()], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert re.fullmatch(r"kluis-init: want to be process 1 of a guest, got \d+\n", done.stderr)


def test_the_interpreters_libraries_find_each_other() -> None:
    """The search path of the plain interpreter applies to libraries of libraries too, without environment."""
    found = elf.read(native.program())

    assert found is not None
    assert (found.rpath, found.runpath) == ((native.INSIDE,), ())


def test_the_launcher_finds_the_layer_where_images_put_it() -> None:
    """The interpreter's layer is mounted where the launcher was linked to look."""
    assert MOUNTS["python"] == native.PYTHON


def test_launcher_looks_only_inside(launcher: Path) -> None:
    """The launcher's loader and libraries are those of the image."""
    said = subprocess.run(["readelf", "-dl", launcher], capture_output=True, text=True, check=True).stdout

    assert "/k/python/lib/ld-linux-x86-64.so.2" in said
    assert re.search(r"Library runpath: \[/k/python/lib\]", said)


def _launch(folder: Path, before: list[str]) -> subprocess.CompletedProcess[str]:
    """Start the launcher by another command, with an interpreter and without an application."""
    interpreter.write(folder / "python", interpreter.base())
    library = folder / "python" / "lib"
    line = [str(library / "ld-linux-x86-64.so.2"), "--library-path", str(library)]
    line += [str(folder / "python" / LAUNCHER), str(folder / "python"), str(64 << 20), "64", "", ""]
    return subprocess.run(
        [*before, *line, "no_such_module", "/nowhere"],
        capture_output=True,
        text=True,
        check=False,
        env={"KLUIS_REGION": str(256 << 20)},
    )


LIMITED = 'ulimit -S -n 1024; ulimit -H -n $0; exec "$@"'
LOW = "kluis-launcher: the heap could not be reserved: RLIMIT_NOFILE: want a hard limit of 16448, got 16447\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose secret memory is not limited")
@pytest.mark.parametrize(("limit", "low"), [(linux.DESCRIPTORS - 1, True), (linux.DESCRIPTORS, False)])
def test_the_launcher_names_a_low_limit_on_descriptors(tmp_path: Path, limit: int, low: bool) -> None:
    """It needs the limit that the doctor checks, and reports it; with that limit it continues."""
    done = _launch(tmp_path, ["sh", "-c", LIMITED, str(limit)])

    assert done.returncode == 70
    assert (done.stderr == LOW) is low, done.stderr
    assert ("could not be reserved" in done.stderr) is low


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose secret memory is not limited")
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_launcher_names_what_slows_it(tmp_path: Path) -> None:
    """A trace of its calls makes the moment long in which its memory has a descriptor."""
    done = _launch(tmp_path, ["strace", "-f", "-e", "trace=ftruncate,mmap", "-o", "/dev/null"])

    assert done.returncode == 70
    assert done.stderr.endswith(
        "the heap could not be reserved: its descriptor existed too long in each try: "
        "something slows this process, such as a trace of its system calls\n"
    )


def test_version_covers_what_isolates(copied: Path) -> None:
    """32 bytes, and others when the launcher or the guardian is another."""
    seen = {native.version()}
    for name in ("launcher", "guardian"):
        stated = json.loads((copied / "runtime.json").read_text())
        stated[name] = "0" * 64
        (copied / "runtime.json").write_text(json.dumps(stated))
        native._read.cache_clear()
        seen.add(native.version())
    native._read.cache_clear()

    assert {len(version) for version in seen} == {32}
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("name", "find"),
    [("kluis-guardian", native.guardian), ("kluis-init", native.init), ("python", native.program)],
)
def test_a_changed_program_is_not_run(copied: Path, name: str, find: Callable[[], Path]) -> None:
    """A program that is not the release's is refused before it runs."""
    with (copied / name).open("ab") as f:
        f.write(b"x")
    with pytest.raises(AuthenticityError, match=f"kluis-runtime: {name}: want SHA-256"):
        find()


@pytest.mark.parametrize(("field", "value"), [("kluis", "0.0.9"), ("tag", "cpython-312")])
def test_a_runtime_of_another_release_or_python(copied: Path, field: str, value: str) -> None:
    """The runtime of another Kluis or another Python is refused, with both sides and what fixes it."""
    stated = json.loads((copied / "runtime.json").read_text()) | {field: value}
    (copied / "runtime.json").write_text(json.dumps(stated))
    native._read.cache_clear()
    with pytest.raises(UnavailableError) as refused:
        native.runtime()
    native._read.cache_clear()

    assert refused.value.message.startswith("kluis-runtime: ")
    assert refused.value.message.endswith(f"got {value}")
    assert refused.value.hint == native.reinstall()


def test_guardian_alone_refuses(launcher: Path) -> None:
    """Without arguments neither part does anything."""
    done = subprocess.run([native.guardian()], capture_output=True, text=True, check=False, env={}, cwd="/")

    assert done.returncode == 70
    assert done.stderr.startswith("kluis-guardian: arguments")


def test_no_symbols_of_this_machine(launcher: Path) -> None:
    """Neither program holds a path of the machine that compiled it."""
    for path in (launcher, native.guardian(), native.init(), native.program()):
        data = path.read_bytes()
        assert os.fsencode(Path.home()) not in data
        assert b"/work/" not in data
        assert b".cache/kluis" not in data
