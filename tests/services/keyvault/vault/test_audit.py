"""The record: chained, written in one change with its event, and complete with concurrent callers."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import KluisError, UnavailableError
from kluis.formats.encoding import jcs
from kluis.hashes import sha256
from kluis.services.keyvault.vault import audit
from kluis.services.keyvault.vault.audit import Entry, Event, Recorder
from tests.services.keyvault.memory import MemoryStorage


def event(subject: str = "somebody", **more: Any) -> Event:
    """An event."""
    return Event("release", "k", "0" * 32, subject, 1_780_272_000, **more)


def record(recorder: Recorder, one: Event) -> None:
    """Put an event on record that nothing follows from."""
    recorder.record(lambda _: one, lambda: None)


text = st.text(max_size=12)


@given(text.map(lambda one: one.encode("utf-8", "replace").decode()), text, st.integers(0, 1 << 40))
def test_the_hash_is_of_canonical_json(subject: str, name: str, time: int) -> None:
    """The hash that is computed fast is the one of RFC 8785: anyone can check it with any tool."""
    name = name.encode("utf-8", "replace").decode()
    entry = Entry(1, "release", name, "0", subject, time, "", "", "", audit.START, "")
    members = {
        "sequence": 1, "operation": "release", "key": name, "version": "0", "subject": subject, "time": time,
        "authority": "", "target": "", "recipient": "", "previous": audit.START,
    }  # fmt: skip
    assert entry.compute_hash() == sha256(jcs.dumps(members)).hex()


def test_a_subject_of_half_a_character() -> None:
    """Whatever the issuer calls its bearer, the record can be written."""
    storage = MemoryStorage()
    storage.update(lambda writing: audit.append(writing, event("\ud800")))
    assert [each.subject for each in audit.entries(storage, 0, 9)] == ["?"]


def test_events_that_come_together_go_together() -> None:
    """Who waits for a change that is under way goes into the next one, together with all who wait."""
    storage = Gated()
    recorder = Recorder(storage)
    threads = [threading.Thread(target=record, args=(recorder, event(str(at)))) for at in range(6)]
    threads[0].start()
    assert storage.inside.wait(300)
    for each in threads[1:]:
        each.start()
    while len(recorder._waiting) < 5:
        threading.Event().wait(0.001)
    storage.go.set()
    for each in threads:
        each.join(300)
    assert storage.changes == 2
    assert {each.subject for each in audit.entries(storage, 0, 9)} == set("012345")
    assert audit.head(storage).sequence == 6


class Gated(MemoryStorage):
    """A store whose first change waits."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.go, self.changes = threading.Event(), threading.Event(), 0

    def update(self, work: Any, *meanwhile: Any) -> Any:
        """Change, once it may."""
        self.changes += 1
        self.inside.set()
        assert self.go.wait(300)
        return super().update(work, *meanwhile)


@pytest.mark.parametrize("fault", [UnavailableError("the host keeps nothing"), ZeroDivisionError()])
def test_what_is_not_kept_is_told(fault: Exception) -> None:
    """Who was not put on record hears so, whatever went wrong; the next one is."""
    storage = MemoryStorage()
    recorder, good = Recorder(storage), storage.update

    def bad(work: Any, *meanwhile: Any) -> Any:
        raise fault

    storage.update = bad  # type: ignore[method-assign]
    with pytest.raises((KluisError, ZeroDivisionError)):
        record(recorder, event())
    storage.update = good  # type: ignore[method-assign]
    record(recorder, event())
    assert audit.head(storage).sequence == 1


def test_what_follows_is_of_the_change_that_is_kept() -> None:
    """A change that runs twice is followed once, from its last run; each failure affects only one caller."""
    storage = MemoryStorage()
    storage.twice = True
    recorder, found, followed = Recorder(storage), [], []

    def happen(reading: Any) -> Event:
        found.append(audit.head(reading).sequence)
        return event()

    recorder.record(happen, lambda: followed.append(len(found)))
    assert followed == [2]
    with pytest.raises(ZeroDivisionError):
        recorder.record(lambda _: 1 // 0, lambda: followed.append(-1))  # type: ignore[arg-type,return-value]
    with pytest.raises(ZeroDivisionError):
        recorder.record(lambda _: event(), lambda: 1 // 0)  # type: ignore[arg-type,return-value]
    assert followed == [2]
    assert audit.head(storage).sequence == 2
