"""The places of ocalls' answers."""

from __future__ import annotations

import os
import threading

import pytest

from kluis.enclave.boundary import memfile
from kluis.enclave.boundary.frames import Parcel
from kluis.enclave.runtime.failures import CancelInterrupt
from kluis.enclave.runtime.ocalls import Slot, Slots
from kluis.errors import CallTimeout


def test_first_answer_counts() -> None:
    """The first answer is taken; a second one, and one for nobody, are thrown away."""
    slots, slot = Slots(), Slot(1)
    slots.add(slot)
    slots.fill(1, Parcel(b"first"))
    slots.fill(1, Parcel(b"second"))
    slots.fill(2, Parcel(b"nobody's"))
    assert slot.wait(0, "ask").frame == b"first"


def test_late_answer() -> None:
    """After the time is up the answer is thrown away, and its descriptors closed."""
    slots, slot = Slots(), Slot(1)
    slots.add(slot)
    with pytest.raises(CallTimeout, match=r"^ocall ask: no answer from the host in 0\.01 s$"):
        slot.wait(0.01, "ask")
    slots.drop(slot)
    file = memfile.of_bytes(b"x")
    slots.fill(1, Parcel(b"late", (file,)))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_answer_between_timeout_and_drop() -> None:
    """An answer that comes as its ocall gives up is closed, too."""
    slots, slot = Slots(), Slot(1)
    slots.add(slot)
    with pytest.raises(CallTimeout):
        slot.wait(0.01, "ask")
    file = memfile.of_bytes(b"x")
    slots.fill(1, Parcel(b"late", (file,)))
    slots.drop(slot)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_interrupted() -> None:
    """A thread that waits for the host is woken when its call is cancelled; others are not."""
    slots, mine, other = Slots(), Slot(1), Slot(2)
    other.thread = -1
    slots.add(mine)
    slots.add(other)
    slots.interrupt(threading.get_ident())
    with pytest.raises(CancelInterrupt):
        mine.wait(None, "ask")
    with pytest.raises(CallTimeout):
        other.wait(0, "ask")
