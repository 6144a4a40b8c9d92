"""CCF's own tools, of two versions, read ledgers of ours at every level, and refuse changed ones."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kluis.formats.ccf.chunk import Chunk
from kluis.formats.ccf.domain import PublicDomain, Writes
from kluis.formats.ccf.entry import Entry
from kluis.ledger import sample
from kluis.ledger.audit import Source, audit
from kluis.ledger.merkle import Tree
from kluis.ledger.sample import Sample
from tests.clients.ccf import environments
from tests.clients.ccf.environments import VERSIONS, tool

LEVELS = ("NONE", "OFFSETS", "HEADERS", "MERKLE", "FULL")
ENTRIES = 200
NOW = datetime.now(UTC)


@functools.cache
def made(*, cose_only: bool = False) -> Sample:
    """A ledger of ours."""
    return sample.make(ENTRIES, NOW, os.urandom, cose_only=cose_only)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The ledger's files, and what goes with them."""
    return written(tmp_path / "ledger", made())


def written(path: Path, ledger: Sample) -> Path:
    """Put a ledger into a folder."""
    path.mkdir()
    for name, data in {**ledger.files, **sample.extras(ledger)}.items():
        (path / name).write_bytes(data)
    return path


def signatures(ledger: Sample) -> int:
    """How many signed roots it has."""
    return len(ledger.batches)


def test_version_6_reads_it(folder: Path) -> None:
    """Every signature is found, and the last entry is the last one verified."""
    done = tool("6", "read_ledger.py", "-q", folder)
    assert done.returncode == 0, done.stderr
    assert f"Found {signatures(made())} signatures, and verified until 2.{ENTRIES}" in done.stdout


@pytest.mark.parametrize("level", LEVELS)
def test_version_7_reads_it(level: str, folder: Path) -> None:
    """At each level."""
    done = tool("7", "read_ledger.py", "-q", "--verification-level", level, folder)
    assert done.returncode == 0, done.stderr
    if level == "FULL":
        said = f"Verified FULL - {ENTRIES} transactions, {signatures(made())} signatures, until 2.{ENTRIES}"
        assert said in done.stdout


def test_one_chunk_alone(folder: Path) -> None:
    """A chunk apart from the others has the tree that it goes on from."""
    chunk = sorted(folder.glob("ledger_*"), key=lambda path: int(re.findall(r"\d+", path.name)[0]))[-1]
    done = tool("7", "read_ledger.py", "-q", "--verification-level", "MERKLE", chunk)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_without_the_nodes_signatures(version: str, tmp_path: Path) -> None:
    """Version 7 verifies a ledger that only the service signs; version 6 finds no signature in it."""
    path = written(tmp_path / "ledger", made(cose_only=True))
    done = tool(version, "read_ledger.py", "-q", path)
    assert done.returncode == 0, done.stderr
    want = "0 signatures" if version == "6" else f"until 2.{ENTRIES}"
    assert want in done.stdout


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("words", [["-d"], ["-t", "public:ccf.gov.*"]])
def test_prints_it(version: str, words: list[str], folder: Path) -> None:
    """Digests, and tables of governance, are printed."""
    done = tool(version, "read_ledger.py", *words, folder)
    assert done.returncode == 0, done.stderr
    if words[0] == "-t":
        assert "public:ccf.gov.constitution" in done.stdout
        assert '"Open"' in done.stdout or "Open" in done.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_other_tools(version: str, folder: Path) -> None:
    """The ledger is drawn, and the chain of its secrets holds; version 7 lists its code."""
    done = environments.on_a_terminal(version, "ledger_viz.py", folder)
    assert done.returncode == 0, done.stdout
    if version == "7":
        for name in ("ledger_code.py", "verify_ledger_secrets_chain.py"):
            done = tool(version, name, folder)
            assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_split(version: str, folder: Path, tmp_path: Path) -> None:
    """A chunk that CCF's tool splits at a signature is two chunks, and the ledger is as good as before."""
    batch = made().batches[12]
    chunk = next(
        path
        for path in folder.glob("ledger_*")
        if (bounds := [int(each) for each in re.findall(r"\d+", path.name)])[0]
        <= batch.signature.seqno
        < bounds[1]
    )
    done = tool(version, "split_ledger.py", chunk, batch.signature.seqno, "--output-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    chunk.unlink()
    for part in tmp_path.glob("ledger_*"):
        if part.is_file():
            shutil.move(part, folder / part.name)
    done = tool(version, "read_ledger.py", "-q", folder)
    assert done.returncode == 0, done.stderr
    assert audit([Source(path.name, path.read_bytes) for path in folder.glob("ledger_*")]).ok


@pytest.mark.parametrize("version", VERSIONS)
def test_as_a_library(version: str, folder: Path) -> None:
    """Ids, digests, tables and the public state are ours; private values are in no file."""
    table, seqnos = "public:records", list(range(1, ENTRIES + 1, 4))
    answer = environments.check(version, "ledger", {"folder": str(folder), "table": table, "seqnos": seqnos})
    tree = Tree()
    for batch in made().batches:
        tree.extend(batch.leaves)
    assert [[txid, leaf] for txid, leaf, _ in answer["entries"]] == [
        [f"2.{seqno}", tree.leaf(seqno).hex()] for seqno in range(1, ENTRIES + 1)
    ]
    assert answer["some"] == {str(each): [f"2.{each}", tree.leaf(each).hex()] for each in seqnos}
    assert answer["last"] == ENTRIES
    state: dict[str, str] = {}
    for writes in _writes():
        for key, value in writes.get(table, {}).items():
            state.pop(key.hex(), None)
            if value is not None:
                state[key.hex()] = value.hex()
    found = {key: value for key, value in answer["state"].get(table, {}).items() if value is not None}
    assert found == state


def _writes() -> Iterator[Writes]:
    for batch in made().batches:
        for raw in Chunk.parse(bytes(8) + batch.entries, "batch").entries():
            yield PublicDomain.parse(Entry.parse(raw, "entry").public, "entry").writes


def flip(name: str, at: int) -> Callable[[Path], None]:
    """A change of one bit."""

    def change(path: Path) -> None:
        file = next(iter(sorted(path.glob(name))))
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(data)

    return change


def swap(path: Path) -> None:
    """Two files have each other's bytes."""
    one, other = sorted(path.glob("ledger_*"))[:2]
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


CHANGES: dict[str, Callable[[Path], None]] = {
    "version": flip("ledger_1-*", 8),
    "flags": flip("ledger_1-*", 9),
    "tag": flip("ledger_11-*", 20),
    "seqno": flip("ledger_11-*", 32),
    "claims digest": flip("ledger_11-*", 70),
    "evidence digest": flip("ledger_11-*", 100),
    "ciphertext": flip("ledger_11-*", 150),
    "genesis": flip("ledger_1-*", 1000),
    "offset": flip("ledger_11-*", -2),
    "cut": lambda path: os.truncate(path / next(iter(sorted(path.glob("ledger_11-*")))), 900),
    "middle": lambda path: next(iter(path.glob("ledger_11-*"))).unlink(),
    "swapped": swap,
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("change", CHANGES)
def test_changed(version: str, change: str, folder: Path) -> None:
    """What their tools refuse, ours refuses, with the file or the entry."""
    CHANGES[change](folder)
    done = tool(version, "read_ledger.py", "-q", folder)
    assert done.returncode != 0 or "Found 0" in done.stdout, done.stdout
    report = audit([Source(path.name, path.read_bytes) for path in sorted(folder.glob("ledger_*"))])
    assert not report.ok
    assert any(each.file for each in report.failures), json.dumps([str(each) for each in report.failures])
