"""A log keeps batches as they are, whatever its process or its disk does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kluis.errors import FormatError, UnavailableError
from kluis.formats.ccf.chunk import Chunk
from kluis.formats.ccf.entry import Entry
from kluis.ledger.log_head import EMPTY, head_of
from kluis.ledger.sequencer import Batch
from kluis.serve.ledger.log import LedgerLog
from tests.serve.ledger.batches import Writer


def _head(batch: Batch) -> bytes:
    return head_of(batch.signature.seqno, batch.entries[-batch.sizes[-1] :])


def _fill(log: LedgerLog, batches: list[Batch]) -> None:
    for batch in batches:
        assert log.append(log.head(), batch.entries) == "ok"


def _all(log: LedgerLog) -> bytes:
    found, first = b"", 1
    while part := log.read(first, 500):
        found += part
        at = 0
        while at < len(part):
            at += 8 + int.from_bytes(part[at + 2 : at + 8], "little")
            first += 1
    return found


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    """Through open and whole chunks, in pieces, and by another process later."""
    writer = Writer(chunk_size=4000)
    batches = [writer.batch(5) for _ in range(12)]
    with LedgerLog(tmp_path / "ledger") as log:
        assert log.head() == EMPTY
        assert log.read(1, 1000) == b""
        _fill(log, batches)
        assert log.head() == _head(batches[-1])
        assert _all(log) == b"".join(one.entries for one in batches)
        with pytest.raises(UnavailableError, match="another process writes this ledger"):
            LedgerLog(tmp_path / "ledger")
    whole = sorted(tmp_path.glob("ledger/*.committed"))
    assert len(whole) > 2
    for path in whole:
        assert Chunk.parse(path.read_bytes(), path.name).complete
    with LedgerLog(tmp_path / "ledger") as log:
        assert log.head() == _head(batches[-1])
        assert _all(log) == b"".join(one.entries for one in batches)
        assert Entry.parse(log.read(7, 0), "entry").seqno == 7


def test_one_of_two_writers_is_fenced_and_the_same_call_may_be_made_again(tmp_path: Path) -> None:
    """A batch that the log has already is acknowledged again; another on the same head is not."""
    writer, other = Writer(), Writer(view=3)
    first, second = writer.batch(), writer.batch()
    rival = other.batch(), other.batch()
    with LedgerLog(tmp_path / "ledger") as log:
        assert log.append(EMPTY, first.entries) == "ok"
        assert log.append(EMPTY, first.entries) == "ok"
        assert log.append(EMPTY, rival[0].entries) == "fenced"
        assert log.append(_head(rival[0]), rival[1].entries) == "fenced"
        assert log.append(_head(first), second.entries) == "ok"
        assert log.head() == _head(second)


@pytest.mark.parametrize("cut", ["entry", "batch", "header", "table", "name"])
def test_a_torn_tail_ends_at_the_last_signature(tmp_path: Path, cut: str) -> None:
    """What a crash left is moved aside, byte for byte, and the log goes on after the last signature."""
    writer = Writer()
    batches = [writer.batch() for _ in range(3)]
    folder = tmp_path / "ledger"
    with LedgerLog(folder) as log:
        _fill(log, batches[:2])
    path = folder / "ledger_1"
    good, after = path.read_bytes(), batches[2].entries
    tail = {
        "entry": after[: batches[2].sizes[0] - 5],
        "batch": after[: sum(batches[2].sizes[:2])],
        "header": after[:5],
        "table": (8).to_bytes(4, "little") * 3,
        "name": b"",
    }[cut]
    begin = len(good).to_bytes(8, "little") if cut == "name" else good[:8]
    path.write_bytes(begin + good[8:] + tail)
    with LedgerLog(folder) as log:
        assert log.head() == _head(batches[1])
        assert path.read_bytes() == good
        assert [one.read_bytes() for one in tmp_path.glob("ledger.torn/*")] == ([tail] if tail else [])
        _fill(log, batches[2:])
        assert _all(log) == b"".join(one.entries for one in batches)


def test_a_damaged_open_chunk_is_named_with_what_was_put_aside(tmp_path: Path) -> None:
    """Whether what follows the damage was acknowledged only the witness can tell: the operator is told."""
    writer, folder = Writer(), tmp_path / "ledger"
    batches = [writer.batch() for _ in range(3)]
    with LedgerLog(folder) as log:
        _fill(log, batches)
    path = folder / "ledger_1"
    raw = bytearray(path.read_bytes())
    begin = 8 + len(batches[0].entries)
    raw[begin + 5] ^= 0x40  # of an entry's size
    path.write_bytes(raw)
    lines: list[str] = []
    with LedgerLog(folder, lines.extend) as log:
        assert log.head() == _head(batches[0])
    torn = tmp_path / "ledger.torn" / f"1_at_{begin}"
    assert torn.read_bytes() == raw[begin:]
    assert lines == [
        f"ledger: {folder}: ends with entry {batches[0].signature.seqno}; {len(raw) - begin} bytes that are"
        f" not part of it are in {torn}"
    ]


def test_an_open_chunk_without_a_signature_begins_again(tmp_path: Path) -> None:
    """The first batch of all was torn: nothing of it was acknowledged."""
    batch, folder = Writer().batch(), tmp_path / "ledger"
    folder.mkdir()
    (folder / "ledger_1").write_bytes(bytes(8) + batch.entries[: batch.sizes[0]])
    with LedgerLog(folder) as log:
        assert log.head() == EMPTY
        _fill(log, [batch])
        assert _all(log) == batch.entries


@pytest.mark.parametrize("failing", ["pwrite", "fdatasync"])
def test_a_full_disk_acknowledges_nothing_and_is_ready_again_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """The same batch is taken once there is room; half of it on the disk does no harm."""
    writer = Writer()
    batches = [writer.batch() for _ in range(2)]
    lines: list[str] = []
    with LedgerLog(tmp_path / "ledger", lines.extend) as log:
        _fill(log, batches[:1])
        real = getattr(os, failing)

        def full(file: int, *rest: object) -> int:
            if failing == "pwrite":
                data, at = rest
                real(file, bytes(data)[:50], at)  # type: ignore[call-overload] # bytes and an offset
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr(os, failing, full)
            for _ in range(2):
                assert log.append(log.head(), batches[1].entries) == "unknown"
        assert log.head() == _head(batches[0])
        assert log.append(log.head(), batches[1].entries) == "ok"
        assert _all(log) == b"".join(one.entries for one in batches)
        assert lines == [  # once each, however often the batch was tried
            f"ledger: {log.folder}: entries cannot be written: No space left on device (hint: see its disk)",
            f"ledger: {log.folder}: entries are written again",
        ]
    with LedgerLog(tmp_path / "ledger") as log:
        assert _all(log) == b"".join(one.entries for one in batches)


@pytest.mark.parametrize("failing", ["pwrite", "fdatasync", "rename"])
@pytest.mark.parametrize("step", range(3))
def test_a_chunk_that_could_not_be_ended_ends_with_the_next_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, step: int
) -> None:
    """The batch is acknowledged, since it is on the disk; the chunk is whole before the next one follows."""
    writer = Writer(chunk_size=1)
    batches, folder = [writer.batch() for _ in range(2)], tmp_path / "ledger"
    with LedgerLog(folder) as log:
        owner = Path if failing == "rename" else os
        real, calls = getattr(owner, failing), list[object]()

        def full(*arguments: object) -> object:
            calls.append(arguments)
            if len(calls) > step + {"pwrite": 2, "fdatasync": 1, "rename": 0}[failing]:  # the batch's own
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(owner, failing, full)
            assert log.append(EMPTY, batches[0].entries) == "ok"
        _fill(log, batches[1:])
        assert _all(log) == b"".join(one.entries for one in batches)
    assert [path.name for path in sorted(folder.iterdir())] == [
        "ledger_1-4.committed",
        "ledger_5-8.committed",
    ]
    for path, batch in zip(sorted(folder.iterdir()), batches, strict=True):
        chunk = Chunk.parse(path.read_bytes(), path.name)
        assert chunk.complete
        assert b"".join(chunk.entries()) == batch.entries


def test_whole_chunks_take_no_descriptors(tmp_path: Path) -> None:
    """A log has as many chunks as its disk holds, and a process few files."""
    writer, folder = Writer(chunk_size=1), tmp_path / "ledger"
    with LedgerLog(folder) as log:
        _fill(log, [writer.batch(1) for _ in range(3)])
        few = len(os.listdir("/proc/self/fd"))
        _fill(log, [writer.batch(1) for _ in range(20)])
        assert len(os.listdir("/proc/self/fd")) == few
    with LedgerLog(folder) as log:
        assert len(log.read(1, 0)) > 0
        assert len(os.listdir("/proc/self/fd")) <= few


def test_a_table_that_was_cut_after_the_start_is_named(tmp_path: Path) -> None:
    """What is no longer on the disk is an error that says so."""
    writer, folder = Writer(chunk_size=1), tmp_path / "ledger"
    with LedgerLog(folder) as log:
        _fill(log, [writer.batch() for _ in range(2)])
        path = folder / "ledger_1-4.committed"
        os.truncate(path, path.stat().st_size - 2)
        with pytest.raises(FormatError, match=r"ledger_1-4\.committed\.table: is cut short"):
            log.read(4, 0)
        path.unlink()
        with pytest.raises(UnavailableError, match="No such file"):
            log.read(1, 0)


def test_a_missing_chunk_is_named(tmp_path: Path) -> None:
    """A log with a gap does not open: nothing can be appended to it."""
    writer = Writer(chunk_size=1)
    folder = tmp_path / "ledger"
    with LedgerLog(folder) as log:
        _fill(log, [writer.batch() for _ in range(3)])
    (folder / "ledger_5-8.committed").unlink()
    with pytest.raises(FormatError, match=r"want a chunk that begins at 5, got ledger_9-12\.committed"):
        LedgerLog(folder)


def test_a_batch_that_is_not_entries_is_refused(tmp_path: Path) -> None:
    """A log holds entries, and no other bytes of an enclave's."""
    with LedgerLog(tmp_path / "ledger") as log:
        for wrong in (b"x" * 100, Writer().batch().entries[:-1]):
            with pytest.raises(FormatError):
                log.append(EMPTY, wrong)
        assert log.head() == EMPTY
        assert log.read(1, 10) == b""


def test_a_batch_is_acknowledged_before_its_chunk_has_it(tmp_path: Path) -> None:
    """It is read all the same, whole or in part, alone or after others; then its chunk has it."""
    writer, path = Writer(), tmp_path / "ledger" / "ledger_1"
    batches = [writer.batch(3) for _ in range(3)]
    with LedgerLog(tmp_path / "ledger") as log:
        for count, batch in enumerate(batches, 1):
            before = path.read_bytes() if path.exists() else b""
            answer, then = log.append_first(log.head(), batch.entries)
            assert answer == "ok"
            assert path.read_bytes() == before
            assert _all(log) == b"".join(one.entries for one in batches[:count])
            for seqno in range(1, 1 + 4 * count):
                assert Entry.parse(log.read(seqno, 0), "entry").seqno == seqno
            then()
            assert path.read_bytes()[8:] == b"".join(one.entries for one in batches[:count])


def test_the_next_batch_writes_what_its_chunk_does_not_have(tmp_path: Path) -> None:
    """Whether the host goes on after its answer, or not; at an end of the log too."""
    writer = Writer(chunk_size=9000)
    batches = [writer.batch(3) for _ in range(6)]
    with LedgerLog(tmp_path / "ledger") as log:
        for batch in batches:
            assert log.append_first(log.head(), batch.entries).value == "ok"
    with LedgerLog(tmp_path / "ledger") as log:
        assert _all(log) == b"".join(one.entries for one in batches)


def test_a_disk_that_is_full_after_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was acknowledged is read, and nothing more is acknowledged until the disk has room."""
    writer, real = Writer(), os.pwrite
    batches = [writer.batch(3) for _ in range(3)]
    with LedgerLog(tmp_path / "ledger") as log:
        _fill(log, batches[:1])
        answer, then = log.append_first(log.head(), batches[1].entries)

        def full(file: int, data: bytes, at: int) -> int:
            if "journal" in os.readlink(f"/proc/self/fd/{file}"):
                return real(file, data, at)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            then()
            assert answer == "ok"
            assert _all(log) == b"".join(one.entries for one in batches[:2])
            for _ in range(2):
                assert log.append(log.head(), batches[2].entries) == "unknown"
        assert log.append(log.head(), batches[2].entries) == "ok"
        assert _all(log) == b"".join(one.entries for one in batches)
    with LedgerLog(tmp_path / "ledger") as log:
        assert _all(log) == b"".join(one.entries for one in batches)
