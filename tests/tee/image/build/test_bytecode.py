"""Bytecode is the same on any day, in any process, and is never staler than its source."""

from __future__ import annotations

import importlib.util
import marshal
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kluis.tee.image import pyc, sources
from kluis.tee.image.build import bytecode, compiler
from tests.tee.image import samples

MODULE = b'''
"""A module with everything that tempts a marshaller."""
NAMES = {"a", "b", "c", "d", "e", "f"}
def f(x, *, y: int = 1 << 70) -> tuple:
    return (x in {"red", "green", "blue", "white"}, 1.5, 2j, b"bytes", "caf\xc3\xa9", ..., f"{x!r:>{y}}")
class C:
    def g(self): return [lambda: self, (1, (2, (3,)))]
'''
PROGRAM = """
import sys
from kluis.tee.image.build import compiler
interned = [sys.intern(name) for name in ("red", "f", "x", "NAMES")] * 3
sys.stdout.buffer.write(compiler.compile_source(sys.stdin.buffer.read(), "/k/app/m.py"))
"""


def test_the_same_in_any_process() -> None:
    """Hash seeds, folders and what else the process did leave no mark on the bytes."""
    made = set()
    for seed, folder in (("1", "/"), ("2", "/usr"), ("random", "/tmp")):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=MODULE,
            capture_output=True,
            check=True,
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        made.add(done.stdout)
    assert made == {compiler.compile_source(MODULE, "/k/app/m.py")}


def test_every_module_of_the_standard_library_compiles_alike() -> None:
    """A spread of the standard library, compiled again after much else is interned, is the same."""
    folder = Path(os.__file__).parent
    for path in sorted(folder.glob("*.py"))[::7]:
        data = path.read_bytes()
        first = compiler.compile_source(data, f"/k/{path.name}")
        if first:
            loaded = marshal.loads(first[16:])
            exec(compile("0", "x", "exec"), {})
            assert compiler.compile_source(data, f"/k/{path.name}") == first
            assert loaded.co_filename == f"/k/{path.name}"


def test_header_is_an_unchecked_hash() -> None:
    """The interpreter takes the bytecode by PEP 552's unchecked hash, with no look at times or sizes."""
    made = compiler.compile_source(MODULE, "/k/app/m.py")
    assert made[:4] == importlib.util.MAGIC_NUMBER
    assert made[4:8] == b"\x01\0\0\0"
    assert made[8:16] == importlib.util.source_hash(MODULE)


@pytest.mark.parametrize("data", [b"print 'two'", b"\0", b"\xff\xfe", b"(" * 1000])
def test_what_does_not_compile_has_no_bytecode(data: bytes) -> None:
    """Templates and modules for other versions are carried as they are."""
    assert compiler.compile_source(data, "/k/app/m.py") == b""


def test_warnings_of_others_stay_quiet() -> None:
    """A module with an invalid escape compiles without a word to the author."""
    assert compiler.compile_source(b"x = '\\d'", "/k/app/m.py")


def layer(cache: Path, text: bytes = b"x = 1\n") -> list[tuple[str, bytes]]:
    found = bytecode.layer(
        [sources.of_bytes("m.py", text), sources.of_bytes("t.txt", b"")],
        "/k/app",
        cache,
        cache.parent,
        samples.python(),
        lambda line: None,
    )
    return [(file.path, file.read()) for file in found]


def test_a_pack_is_used_again(tmp_path: Path) -> None:
    """The second build of the same files takes the first one's pack."""
    first = layer(tmp_path)
    packs = list(tmp_path.iterdir())
    assert layer(tmp_path) == first
    assert first == [
        (
            pyc.pyc_path("m.py", sys.implementation.cache_tag),
            compiler.compile_source(b"x = 1\n", "/k/app/m.py"),
        )
    ]
    assert list(tmp_path.iterdir()) == packs
    assert len(packs) == 1


def test_a_changed_source_is_compiled_anew(tmp_path: Path) -> None:
    """Stale bytecode is never used: a pack is found by the hash of every source in it."""
    layer(tmp_path)
    changed = layer(tmp_path, b"x = 2\n")
    assert changed[0][1] == compiler.compile_source(b"x = 2\n", "/k/app/m.py")


@pytest.mark.parametrize("damage", ["flip", "cut", "other", "empty"])
def test_a_damaged_pack_is_made_again(tmp_path: Path, damage: str) -> None:
    """A pack that is not what it was is not used, whatever happened to it."""
    good = layer(tmp_path)
    (pack,) = tmp_path.iterdir()
    data = pack.read_bytes()
    pack.write_bytes(
        {
            "flip": data[:60] + bytes([data[60] ^ 1]) + data[61:],
            "cut": data[:-5],
            "other": b"x" * len(data),
            "empty": b"",
        }[damage]
    )
    assert layer(tmp_path) == good
    assert pack.read_bytes() == data


def test_old_packs_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache keeps a bounded number of packs."""
    monkeypatch.setattr(bytecode, "_KEPT_PACKS", 4)
    for index in range(7):
        layer(tmp_path, f"x = {index}\n".encode())
    assert len(list(tmp_path.iterdir())) == 4
