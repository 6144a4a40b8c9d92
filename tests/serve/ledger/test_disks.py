"""A log on a disk that has only what was flushed: whatever was acknowledged is there, at each step."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.ledger.sequencer import Batch
from kluis.serve.ledger import journal as journals
from kluis.serve.ledger import log as logs
from kluis.serve.ledger.journal import BLOCK
from kluis.serve.ledger.log import LedgerLog
from tests.serve.ledger.batches import Writer
from tests.serve.ledger.disks import Disk, PowerOff

MOST = 2 * BLOCK


def _batches() -> list[Batch]:
    """Small and large ones, in three chunks; the journal is full twice."""
    writer = Writer(chunk_size=24_000)
    sizes = [100, 100, 5000, 100, 3 * BLOCK, 100, 100, 100, 5000, 100, 100]
    return [writer.batch(1, size) for size in sizes]


BATCHES = _batches()


def _write(log: LedgerLog, kept: list[Batch]) -> None:
    for batch in BATCHES[len(kept) :]:
        answer, then = log.append_first(log.head(), batch.entries)
        while answer != "ok":
            then()
            answer, then = log.append_first(log.head(), batch.entries)
        kept.append(batch)  # by now its caller has the answer
        then()


def _all(folder: Path) -> bytes:
    found, first = b"", 1
    with LedgerLog(folder) as log:
        last = int.from_bytes(log.head()[:8], "big")
        while first <= last:
            part = log.read(first, 0)
            found, first = found + part, first + 1
    return found


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Under a journal of four blocks."""
    monkeypatch.setattr(journals, "SIZE", 4 * BLOCK)
    monkeypatch.setattr(logs, "MOST", MOST)
    return Disk(monkeypatch)


def _found(disk: Disk, folder: Path, to: Path) -> bytes:
    """What a machine that starts from the disk has, and goes on from."""
    disk.left(folder, to)
    return _all(to / "ledger")


def _run(disk: Disk, folder: Path) -> list[Batch]:
    """Write all batches until the machine ends; those that were acknowledged."""
    kept: list[Batch] = []
    folder.mkdir()
    log = None
    with contextlib.suppress(PowerOff):
        log = LedgerLog(folder / "ledger")
        _write(log, kept)
    disk.calm()
    if log is not None:
        log._let_go(keep=True)
    return kept


def _whole(count: int) -> bytes:
    return b"".join(each.entries for each in BATCHES[:count])


def _steps(disk: Disk, folder: Path) -> range:
    assert _run(disk, folder) == BATCHES
    assert disk.steps > 40
    return range(1, disk.steps + 1)


def test_the_machine_ends_at_each_step(tmp_path: Path, disk: Disk) -> None:
    """All batches that were acknowledged are there, and at most one more, whole."""
    for step in _steps(disk, tmp_path / "first"):
        disk.begin(step)
        kept = _run(disk, tmp_path / f"{step}")
        found = _found(disk, tmp_path / f"{step}", tmp_path / f"{step} after")
        assert found in (_whole(len(kept)), _whole(len(kept) + 1)), step


def test_the_disk_fails_once_at_each_step_and_the_machine_ends_later(tmp_path: Path, disk: Disk) -> None:
    """What was acknowledged before and after the failure is there; a log that does not open has nothing."""
    for step in _steps(disk, tmp_path / "first"):
        disk.begin(step, fails=True)
        with contextlib.suppress(UnavailableError):
            assert _run(disk, tmp_path / f"{step}") == BATCHES
            found = _found(disk, tmp_path / f"{step}", tmp_path / f"{step} after")
            assert found == _whole(len(BATCHES)), step


@pytest.mark.slow
def test_the_disk_fails_at_each_step_and_the_machine_ends_at_each_later_one(
    tmp_path: Path, disk: Disk
) -> None:
    """Repairs are interrupted, too: no batch that was acknowledged is lost by it."""
    steps = _steps(disk, tmp_path / "first")
    for step in steps:
        for later in range(step + 1, len(steps) + 8):
            name = f"{step} {later}"
            disk.begin(step, later, fails=True)
            with contextlib.suppress(UnavailableError):
                kept = _run(disk, tmp_path / name)
                found = _found(disk, tmp_path / name, tmp_path / f"{name} after")
                assert found in (_whole(len(kept)), _whole(len(kept) + 1)), name
            shutil.rmtree(tmp_path / name)
            shutil.rmtree(tmp_path / f"{name} after", ignore_errors=True)
