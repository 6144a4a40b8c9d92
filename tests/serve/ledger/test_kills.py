"""A ledger under load is killed again and again, as by a power cut: nothing that was answered is lost."""

from __future__ import annotations

import contextlib
import random
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kluis.errors import FormatError
from kluis.formats.ccf.chunk import START, Chunk
from kluis.formats.ccf.entry import Entry
from kluis.ledger.audit import Source, audit
from kluis.serve.ledger.log import LedgerLog
from tests.serve.ledger.batches import Writer
from tests.serve.ledger.clients import Client
from tests.serve.served import Served, bring_images

ROUNDS = 200
WRITERS = 8
MOST_ANSWERS = 200
"""The writes that are answered before a kill are fewer."""
END_SECONDS = 600.0  # ends a hang
PLANTED = "planted b1a6c0d94e7f"
"""In every entry's contents."""
POST = "/app/transactions?api-version=2026-02-23"


class Writers:
    """Clients that write until they are cut off.

    Attributes:
        wrote: what was answered: contents by transaction id.
    """

    def __init__(self, url: str, context: ssl.SSLContext, number: int) -> None:
        self.wrote: dict[str, str] = {}
        self._answers = threading.Semaphore(0)
        self._url, self._context, self._round = url, context, number
        self._threads = [threading.Thread(target=self._write, args=(each,)) for each in range(WRITERS)]
        for thread in self._threads:
            thread.start()

    def await_answers(self, count: int) -> None:
        """Wait until so many writes were answered."""
        for _ in range(count):
            assert self._answers.acquire(timeout=END_SECONDS), "the ledger answers no write"

    def join(self) -> None:
        """Wait until all are cut off."""
        for thread in self._threads:
            thread.join(END_SECONDS)

    def _write(self, writer: int) -> None:
        with httpx.Client(base_url=self._url, verify=self._context, timeout=END_SECONDS) as client:
            for number in range(1_000_000):
                contents = f"{PLANTED} {self._round} {writer} {number}"
                try:
                    answer = client.post(POST, json={"contents": contents})
                except httpx.HTTPError:
                    return
                if answer.status_code == 200:
                    self.wrote[answer.headers["x-ms-ccf-transaction-id"]] = contents
                    self._answers.release()


def _rounds(state: Path, rounds: int) -> dict[str, str]:
    client, chosen, wrote = Client.create(state), random.Random(rounds), {}
    for number in range(rounds):
        with Served(("ledger",), state, "--settings", str(client.settings)) as served:
            writers = Writers(served.told["addresses"]["ledger"], client.context(), number)
            # Counted, not timed: on a loaded machine the first answer may take seconds.
            writers.await_answers(chosen.randrange(MOST_ANSWERS))
            threading.Event().wait(chosen.uniform(0.0, 0.02))  # not always right after an answer
            served.kill()
            writers.join()
            served._reader.join(END_SECONDS)
            assert PLANTED not in "".join(served.log)
            assert not set(writers.wrote) & set(wrote)
            wrote |= writers.wrote
    return wrote


def _nonces(data: bytes, name: str) -> Iterator[tuple[int, int]]:
    for raw in Chunk.parse(data, name, torn=True).entries():
        entry = Entry.parse(raw, name)
        yield entry.view, entry.seqno


def _counted(state: Path) -> Counter[tuple[int, int]]:
    """How often each view and seqno is in a file; no nonce may be there twice."""
    nonces: Counter[tuple[int, int]] = Counter()
    for path in (state / "ledger").iterdir():
        nonces.update(_nonces(path.read_bytes(), path.name))
    for path in (state / "ledger.torn").glob("*"):  # what a kill left after a signature
        with contextlib.suppress(FormatError):  # of a table, or of no whole entry
            nonces.update(_nonces(bytes(START) + path.read_bytes(), path.name))
    assert max(nonces.values()) == 1
    return nonces


def _check(state: Path, wrote: dict[str, str]) -> None:
    """Every entry that was answered is there, an auditor accepts the files, and none shows the contents."""
    nonces = _counted(state)
    for txid in wrote:
        view, _, seqno = txid.partition(".")
        assert nonces[int(view), int(seqno)] == 1, txid
    sources = [Source(path.name, path.read_bytes) for path in sorted((state / "ledger").iterdir())]
    assert not audit(sources).failures
    for path in (each for each in state.rglob("*") if each.is_file()):
        assert PLANTED.encode() not in path.read_bytes(), path


def test_a_kill_under_load(tmp_path: Path) -> None:
    """Three rounds; what was answered is in the ledger, which an auditor accepts."""
    bring_images(tmp_path)
    wrote = _rounds(tmp_path, 3)
    assert wrote
    _check(tmp_path, wrote)


def test_what_is_torn_is_looked_at(tmp_path: Path) -> None:
    """A nonce that is in the ledger, and in what a kill left next to it, is one too many."""
    writer, folder = Writer(), tmp_path / "ledger"
    batch = writer.batch(2)
    with LedgerLog(folder) as log:
        assert log.append(log.head(), batch.entries) == "ok"
    assert _counted(tmp_path).total() == 3
    (tmp_path / "ledger.torn").mkdir()
    (tmp_path / "ledger.torn" / "1_at_8").write_bytes(batch.entries[: batch.sizes[0] + 20])
    with pytest.raises(AssertionError):
        _counted(tmp_path)


@pytest.mark.slow
def test_two_hundred_kills_under_load(tmp_path: Path) -> None:
    """Likewise, two hundred times."""
    bring_images(tmp_path)
    wrote = _rounds(tmp_path, ROUNDS)
    assert len(wrote) > ROUNDS
    _check(tmp_path, wrote)
