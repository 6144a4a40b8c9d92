"""The journal of a log gives back what a crash of the machine took from a chunk, and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kluis.errors import FormatError, UnavailableError
from kluis.ledger.log_head import EMPTY, head_of
from kluis.ledger.sequencer import Batch
from kluis.serve.ledger import journal as journals
from kluis.serve.ledger.journal import BLOCK, MOST, SIZE, Journal, Record
from kluis.serve.ledger.log import LedgerLog
from tests.serve.ledger.batches import Writer


def _append(log: LedgerLog, *batches: Batch) -> None:
    for batch in batches:
        assert log.append(log.head(), batch.entries) == "ok"


def _bytes(*batches: Batch) -> bytes:
    return b"".join(one.entries for one in batches)


def _crash(folder: Path, to: Path, chunk: str, change: Callable[[bytes], bytes | None]) -> Path:
    """What a disk has after a crash: all that was flushed, and of an open chunk what ``change`` leaves."""
    shutil.copytree(folder.parent, to)
    path = to / folder.name / chunk
    changed = change(path.read_bytes())
    if changed is None:
        path.unlink()
    else:
        path.write_bytes(changed)
    return to / folder.name


LOST: dict[str, Callable[[bytes], bytes | None]] = {
    "nothing": lambda data: data,
    "its file": lambda data: None,
    "its bytes": lambda data: b"",
    "its end": lambda data: data[:-100],
    "its second half": lambda data: data[: len(data) // 2],
    "a hole of zeros": lambda data: data[:600] + bytes(len(data) - 900) + data[-300:],
    "its bytes, not its size": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("lost", LOST)
def test_what_a_chunk_lost_is_in_the_journal(tmp_path: Path, lost: str) -> None:
    """Every batch that was acknowledged is there, and the log goes on."""
    writer = Writer()
    batches = [writer.batch() for _ in range(5)]
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, *batches)
        after = _crash(log.folder, tmp_path / "two", "ledger_1", LOST[lost])
    assert not (tmp_path / "one" / "ledger.journal").exists()  # its chunk has everything
    with LedgerLog(after) as log:
        assert log.read(1, 1 << 20) == _bytes(*batches)
        _append(log, more := writer.batch())
    with LedgerLog(after) as log:
        assert log.read(1, 1 << 20) == _bytes(*batches, more)


def test_a_full_journal_begins_again_once_the_chunk_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had before is in the chunk, and what it has since then is not lost."""
    monkeypatch.setattr(journals, "SIZE", 4 * BLOCK)
    writer = Writer()
    batches = [writer.batch(1) for _ in range(11)]
    assert {-(-len(one.entries) // BLOCK) for one in batches} == {1}
    flushed: list[int] = []
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        real = os.fdatasync

        def flush(file: int) -> None:
            real(file)
            if file == log._file:
                flushed.append(os.fstat(file).st_size)

        monkeypatch.setattr(os, "fdatasync", flush)
        _append(log, *batches)
        assert len(flushed) == 2
        after = _crash(log.folder, tmp_path / "two", "ledger_1", lambda data: data[: flushed[-1]])
    with LedgerLog(after) as log:
        assert log.read(1, 1 << 20) == _bytes(*batches)


def test_a_large_batch_is_flushed_in_its_chunk_and_ends_the_journal(tmp_path: Path) -> None:
    """No older batch of the journal takes its place after a crash."""
    writer = Writer()
    small, large, last = writer.batch(), writer.batch(1, MOST), writer.batch()
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, small, large)
        between = _crash(log.folder, tmp_path / "two", "ledger_1", lambda data: data)
        size = (log.folder / "ledger_1").stat().st_size
        _append(log, last)
        after = _crash(log.folder, tmp_path / "three", "ledger_1", lambda data: data[:size])
    for folder, batches in ((between, [small, large]), (after, [small, large, last])):
        with LedgerLog(folder) as log:
            assert log.read(1, 4 << 20) == _bytes(*batches)


def test_a_damaged_record_ends_the_journal(tmp_path: Path) -> None:
    """A write that a crash interrupted was not acknowledged; all before it were."""
    writer = Writer()
    batches = [writer.batch() for _ in range(4)]
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, *batches)
        after = _crash(log.folder, tmp_path / "two", "ledger_1", lambda data: b"")
    with (tmp_path / "two" / "ledger.journal").open("r+b") as file:
        file.seek(3 * BLOCK + 200)
        file.write(b"\xff" * 9)
    with LedgerLog(after) as log:
        assert log.read(1, 1 << 20) == _bytes(*batches[:3])


def test_a_journal_that_was_cut_off_has_what_is_left_of_it(tmp_path: Path) -> None:
    """As by a copy that was interrupted: its first batches are there, and it is made whole again."""
    writer = Writer()
    batches = [writer.batch() for _ in range(3)]
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, *batches)
        after = _crash(log.folder, tmp_path / "two", "ledger_1", lambda data: b"")
    os.truncate(tmp_path / "two" / "ledger.journal", 2 * BLOCK)
    with LedgerLog(after) as log:
        assert log.read(1, 1 << 20) == _bytes(*batches[:2])
        assert (tmp_path / "two" / "ledger.journal").stat().st_size == SIZE


def test_records_of_an_earlier_run_are_not_taken_for_later_ones(tmp_path: Path) -> None:
    """A run that ended without a word left more records than the next one has written yet."""
    writer = Writer()
    batches = [writer.batch() for _ in range(6)]
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, *batches[:4])
        second = _crash(log.folder, tmp_path / "two", "ledger_1", lambda data: data)
    with LedgerLog(second) as log:
        size = (log.folder / "ledger_1").stat().st_size
        _append(log, batches[4])
        third = _crash(log.folder, tmp_path / "three", "ledger_1", lambda data: data[:size])
    with LedgerLog(third) as log:
        assert log.read(1, 1 << 20) == _bytes(*batches[:5])
        _append(log, batches[5])
        assert log.head() == head_of(batches[5].signature.seqno, batches[5].entries[-batches[5].sizes[-1] :])


def test_a_journal_of_another_log_is_put_aside(tmp_path: Path) -> None:
    """A folder that was given back from elsewhere keeps what it has; the journal's batches are not lost."""
    writer = Writer()
    batches, others = [writer.batch() for _ in range(3)], [Writer().batch() for _ in range(2)]
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, batches[0])
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, *batches[1:])
        after = _crash(log.folder, tmp_path / "two", "ledger_1", lambda data: bytes(8) + others[0].entries)
    with LedgerLog(after) as log:
        assert log.read(1, 1 << 20) == others[0].entries
    assert (tmp_path / "two" / "ledger.torn" / "journal_1").read_bytes() == _bytes(*batches[1:])


def test_a_chunk_that_is_whole_needs_no_journal(tmp_path: Path) -> None:
    """Its records stay in the file until others take their place, and are passed over."""
    writer = Writer(chunk_size=1)
    batches = [writer.batch() for _ in range(2)]
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, batches[0])
        after = _crash(log.folder, tmp_path / "two", "ledger_1-4.committed", lambda data: data)
    with LedgerLog(after) as log:
        _append(log, batches[1])
        assert log.read(1, 1 << 20) + log.read(5, 1 << 20) == _bytes(*batches)


def test_a_flush_that_failed_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is acknowledged meanwhile; then the chunk is written again from the journal, and flushed."""
    monkeypatch.setattr(journals, "SIZE", 2 * BLOCK)
    writer = Writer()
    batches = [writer.batch(1) for _ in range(3)]
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, *batches[:2])
        real, file = os.fdatasync, log._file

        def fail(which: int) -> None:
            if which == file:
                os.pwrite(file, bytes(40), 20)  # as pages that could not be written, and were dropped
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(which)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", fail)
            assert log.append(log.head(), batches[2].entries) == "unknown"
        _append(log, batches[2])
        assert log.read(1, 1 << 20) == _bytes(*batches)
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        assert log.read(1, 1 << 20) == _bytes(*batches)


def test_a_close_that_cannot_flush_leaves_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one that opens the log has it from there."""
    batch, folder = Writer().batch(), tmp_path / "ledger"
    with monkeypatch.context() as patched:
        with LedgerLog(folder) as log:
            _append(log, batch)
            patched.setattr(os, "fdatasync", _no_room)
        assert (tmp_path / "ledger.journal").stat().st_size == SIZE
    (folder / "ledger_1").unlink()
    with LedgerLog(folder) as log:
        assert log.read(1, 1 << 20) == batch.entries


def test_a_disk_without_room_for_the_journal_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log does not open, and holds nothing; it opens once there is room."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", _no_room)
        with pytest.raises(UnavailableError, match="No space left"):
            LedgerLog(tmp_path / "ledger")
    with LedgerLog(tmp_path / "ledger") as log:
        assert log.head() == EMPTY


def _no_room(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_journal_that_could_not_be_emptied_begins_again_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After zeros at its start nobody would find the records that follow, which were acknowledged."""
    writer = Writer()
    small, lost = writer.batch(), Writer().batch(1, MOST)
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, small)
        head, real, chunk = log.head(), os.fdatasync, log._file

        def fail(file: int) -> None:
            if file != chunk:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(file)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", fail)
            assert log.append(head, lost.entries) == "unknown"
        assert log.head() == head
        size = (log.folder / "ledger_1").stat().st_size - len(lost.entries)
        _append(log, last := writer.batch())  # of another node: the first one ended
        after = _crash(log.folder, tmp_path / "two", "ledger_1", lambda data: data[:size])
    with LedgerLog(after) as log:
        assert log.read(1, 1 << 20) == _bytes(small, last)


def test_a_chunk_of_which_a_few_bytes_are_left(tmp_path: Path) -> None:
    """The journal's batches have their places in it, also where less than its header is there."""
    batches = [(writer := Writer()).batch(), writer.batch()]
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, *batches)
        after = _crash(log.folder, tmp_path / "two", "ledger_1", lambda data: data[:3])
    with LedgerLog(after) as log:
        assert log.read(1, 1 << 20) == _bytes(*batches)


def test_a_folder_that_is_missing_destroys_no_journal(tmp_path: Path) -> None:
    """As where its disk was not mounted: what only the journal has is put aside, and not overwritten."""
    writer = Writer(chunk_size=1)
    batches = [writer.batch() for _ in range(2)]
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, batches[0])
        log._ends_chunk = False  # the next chunk stays open
        _append(log, open_one := Writer().batch())
        shutil.copytree(tmp_path / "one", tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "ledger")
    with LedgerLog(tmp_path / "two" / "ledger") as log:
        assert log.head() == EMPTY
    assert (tmp_path / "two" / "ledger.torn" / "journal_5").read_bytes() == _bytes(open_one)


def test_a_whole_chunk_of_another_log_is_no_reason_to_forget_a_journal(tmp_path: Path) -> None:
    """A folder that was given back from elsewhere: its chunk has the journal's number, and other batches."""
    batch, other = Writer().batch(), Writer(chunk_size=1).batch()
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, batch)
        shutil.copytree(tmp_path / "one", tmp_path / "two")
    with LedgerLog(tmp_path / "other" / "ledger") as log:
        _append(log, other)
    shutil.rmtree(tmp_path / "two" / "ledger")
    shutil.copytree(tmp_path / "other" / "ledger", tmp_path / "two" / "ledger")
    with LedgerLog(tmp_path / "two" / "ledger") as log:
        assert log.read(1, 1 << 20) == other.entries
    assert (tmp_path / "two" / "ledger.torn" / "journal_1").read_bytes() == batch.entries


@pytest.mark.parametrize("offset", [1 << 63, (1 << 64) - 1])
def test_an_offset_that_no_file_has(tmp_path: Path, offset: int) -> None:
    """A record that somebody made up is put aside, and the log opens."""
    batch, folder = Writer(chunk_size=1).batch(), tmp_path / "ledger"
    with LedgerLog(folder) as log:
        _append(log, batch)
    made = Journal(tmp_path / "ledger.journal")
    made.write(Record(1, offset, EMPTY, b"x"))
    made.close()
    with LedgerLog(folder) as log:
        assert log.read(1, 1 << 20) == batch.entries
    assert (tmp_path / "ledger.torn" / "journal_1").read_bytes() == b"x"


def test_a_chunk_is_written_from_the_journal_even_if_it_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a flush that failed, the page cache may have what the disk does not have."""
    batch = Writer().batch()
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, batch)
        after = _crash(log.folder, tmp_path / "two", "ledger_1", lambda data: data)
    written: list[bytes] = []
    real = os.pwrite

    def write(file: int, data: bytes, at: int) -> int:
        written.append(bytes(data))
        return real(file, data, at)

    monkeypatch.setattr(os, "pwrite", write)
    with LedgerLog(after):
        assert any(batch.entries in each for each in written)


def test_the_names_of_the_folder_and_the_journal_are_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of the machine must not take the name of the only file that has an acknowledged batch."""
    flushed: list[str] = []
    real = os.fsync

    def flush(file: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{file}"))
        real(file)

    monkeypatch.setattr(os, "fsync", flush)
    with LedgerLog(tmp_path / "ledger"):
        assert flushed.index(str(tmp_path / "ledger.journal")) < flushed.index(str(tmp_path))


def _link(path: Path) -> None:
    (path.parent / "elsewhere").write_bytes(b"precious")
    path.symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
@pytest.mark.parametrize("name", ["ledger.journal", "ledger.lock", "ledger/ledger_1"])
def test_what_is_no_file(tmp_path: Path, name: str, what: str) -> None:
    """It is refused, and named; nothing is written through it, and nobody waits for its other end."""
    path = tmp_path / name
    (tmp_path / "ledger").mkdir()
    {"link": _link, "pipe": os.mkfifo, "folder": os.mkdir}[what](path)
    with pytest.raises(UnavailableError, match=str(path)):
        LedgerLog(tmp_path / "ledger")
    assert all(each.read_bytes() == b"precious" for each in path.parent.glob("elsewhere"))


def test_sparse_files(tmp_path: Path) -> None:
    """A journal of 100 GB is read up to its size; a chunk of 100 GB is refused before it is read."""
    batch = Writer().batch()
    with LedgerLog(tmp_path / "one" / "ledger") as log:
        _append(log, batch)
        after = _crash(log.folder, tmp_path / "two", "ledger_1", lambda data: data)
    os.truncate(tmp_path / "two" / "ledger.journal", 100 << 30)
    with LedgerLog(after) as log:
        assert log.read(1, 1 << 20) == batch.entries
    os.truncate(after / "ledger_1", 100 << 30)
    with pytest.raises(FormatError, match=r"ledger_1: want at most 4294967295 bytes and a table"):
        LedgerLog(after)


def test_a_folder_by_two_names_has_one_writer(tmp_path: Path) -> None:
    """A link to the folder leads to the same lock and the same journal."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "ledger").symlink_to(tmp_path / "ledger")
    with LedgerLog(tmp_path / "ledger"):
        with pytest.raises(UnavailableError, match="another process writes this ledger"):
            LedgerLog(tmp_path / "other" / "ledger")
        assert not (tmp_path / "other" / "ledger.journal").exists()
