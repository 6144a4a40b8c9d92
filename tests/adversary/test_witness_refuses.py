"""An enclave that changes its counter all the time, until the TPM refuses: what others have goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kluis.errors import UnavailableError
from kluis.formats.tpm.nv import NvPublic
from kluis.tee.platform.root.counters import Counters
from kluis.tee.platform.root.slots import Slots
from kluis.tee.tpm import faults, witness
from kluis.tee.tpm.witness import Witness

SECRET, ID = b"s" * 32, bytes(32)
RATE = 0x920


class Memory:
    """The NV memory of a TPM, which refuses some commands, before or after it has carried them out."""

    def __init__(self) -> None:
        self.areas: dict[int, NvPublic] = {}
        self.values: dict[int, bytes] = {}
        self.refuses: list[tuple[str, bool]] = []

    def handles(self, first: int) -> tuple[int, ...]:
        return tuple(self.areas)

    def nv_define(self, area: NvPublic, secret: bytes) -> None:
        self.areas[area.index], self.values[area.index] = area, bytes(area.size)

    def nv_public(self, index: int) -> NvPublic:
        return self.areas[index]

    def nv_read(self, index: int, size: int, *, secret: bytes) -> bytes:
        return self.values[index]

    def nv_write(self, index: int, data: bytes, *, secret: bytes) -> None:
        self._change("write", index, data)

    def nv_increment(self, index: int, *, secret: bytes) -> None:
        value = int.from_bytes(self.values[index], "big") + 1
        self._change("increment", index, value.to_bytes(8, "big"))

    def _change(self, what: str, index: int, data: bytes) -> None:
        for done in (False, True):
            if self.refuses[:1] == [(what, done)]:
                self.refuses.pop(0)
                if done:
                    self.values[index] = data
                raise faults.fault(f"NV_{what.upper()}", RATE)
        self.values[index] = data


def started(memory: Memory, path: Path) -> Counters:
    """A platform's start."""
    tpm: Any = memory
    if witness.DIGEST_INDEX not in memory.areas:
        Witness(tpm, SECRET).establish(Slots(path).digest())
    return Counters(path, Witness(tpm, SECRET))


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("what", ["write", "increment"])
def test_a_tpm_that_limits_how_often_it_is_written(tmp_path: Path, what: str, done: bool) -> None:
    """A change that was refused is reported to nobody before it is recorded, which the next request does."""
    memory, path = Memory(), tmp_path / "counters"
    counters = started(memory, path)
    assert counters.increment("another", ID)[0] == 1
    assert counters.increment("greedy", ID)[0] == 1
    memory.refuses = [(what, done)]
    with pytest.raises(UnavailableError, match="limits how often it is written") as refused:
        counters.increment("greedy", ID)
    assert refused.value.code == "tpm_busy"
    assert counters.read("another", ID)[0] == 1
    assert counters.increment("another", ID)[0] == 2
    assert counters.read("greedy", ID)[0] == 2
    again = started(memory, path)
    assert (again.read("greedy", ID)[0], again.read("another", ID)[0]) == (2, 2)


def test_a_tpm_that_goes_on_refusing(tmp_path: Path) -> None:
    """As long as it refuses, no counter is reported."""
    memory, path = Memory(), tmp_path / "counters"
    counters = started(memory, path)
    counters.increment("another", ID)
    memory.refuses = [("write", False)] * 3
    with pytest.raises(UnavailableError):
        counters.increment("greedy", ID)
    for ask in (counters.read, counters.increment):
        with pytest.raises(UnavailableError, match="could not be recorded by their witness") as refused:
            ask("another", ID)
        assert refused.value.code == "witness"
    assert counters.increment("another", ID)[0] == 2
