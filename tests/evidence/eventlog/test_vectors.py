"""Real event logs: each replays to the recorded values, and to the quote recorded with it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from kluis.evidence.eventlog.judgement import Proof, judge
from kluis.evidence.eventlog.replay import Registers, fold, replay
from kluis.formats.eventlog import log as event_log
from kluis.formats.tpm.algorithm import LABELS, HashId
from tests.vectors import MISSING, Vector, found

FOUND = found("eventlog")
BINARY = [vector for vector in FOUND if "replayed" in vector.known]
QUOTED = [vector for vector in FOUND if "td_quote" in vector]
# Where a TD quote of version 4 has its registers.
RTMR0 = 48 + 328


def _kind(vector: Vector) -> Registers:
    return Registers.RTMR if "CCEL" in vector.meta["format"] else Registers.PCR


def _recorded(values: Mapping[str, str], kind: Registers) -> dict[int, bytes]:
    first = 1 if kind is Registers.RTMR else 0
    return {int(number) - first: bytes.fromhex(value) for number, value in values.items()}


@pytest.mark.skipif(not BINARY, reason=MISSING)
@pytest.mark.parametrize("vector", BINARY, ids=lambda vector: vector.name)
def test_vector(vector: Vector) -> None:
    """Every bank replays to the recorded values, and each event of a type that is sure proves its data."""
    assert vector.outcome == "replays"
    log = event_log.parse(vector.part("event_log"))
    kind = _kind(vector)
    for name, values in vector.known["replayed"].items():
        bank, recorded = LABELS[name], _recorded(values, kind)
        assert replay(log, bank, kind) == recorded
        judged = judge(log, bank, kind, recorded)
        assert judged.explained
        assert judged.reproduced == frozenset(recorded)
        assert not judged.failed
        assert Proof.UNKNOWN not in {each.proof for each in judged.events}
        assert Proof.REGISTER not in {each.proof for each in judged.events}
        if recorded:
            # The facts in a log's name are right.
            off = "no-secure-boot" in vector.meta["what"]
            assert judged.secure_boot is False if off else judged.secure_boot is not None


@pytest.mark.skipif(not QUOTED, reason=MISSING)
@pytest.mark.parametrize("vector", QUOTED, ids=lambda vector: vector.name)
def test_against_a_quote(vector: Vector) -> None:
    """A log recorded with a TD quote reproduces the registers in the record, and no others."""
    quote = vector.part("td_quote")
    registers = {n: quote[48 + 328 + 48 * n :][:48] for n in range(4)}
    matching = vector.expected["rtmr_matches_quote"]
    if "json" in vector.meta["files"]["event_log"]["file"]:
        events = json.loads(vector.part("event_log"))
        for number, value in registers.items():
            digests = [bytes.fromhex(e["digest"]) for e in events if e["imr"] == number]
            assert (fold(digests, HashId.SHA384) == value) == matching[f"rtmr{number}"]
        return
    log = event_log.parse(vector.part("event_log"))
    judged = judge(log, HashId.SHA384, Registers.RTMR, registers)
    assert {f"rtmr{n}" for n in judged.reproduced} == {name for name, same in matching.values() if same}
    assert judged.explained
