"""Changed copies of a ledger: each is found, or is of the kind that only a receipt shows, and one does."""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Mapping

import pytest

from kluis.formats.ccf.chunk import Chunk, ChunkName
from kluis.formats.ccf.txid import TxId
from kluis.ledger import receipts
from kluis.ledger.audit import Expected
from tests.formats.ccf import real
from tests.ledger.audit.chunks import write_chunk
from tests.ledger.audit.doctor import Doctor
from tests.ledger.audit.forge import Forge, audited, parties

FEW, MANY = 100, 50_000


@functools.cache
def ledger() -> tuple[Doctor, tuple[Expected, ...]]:
    """A ledger of three chunks, and receipts of its last entries by a signature that came later."""
    made = Forge.governed()
    for number in range(4):
        made.write(
            {"public:app": {b"%d" % number: b"v", b"x": None}, "private": {b"k": os.urandom(20)}},
            new_chunk=number in (1, 3),
        )
    files, last = made.files(), made.sequencer.last.seqno
    later = made.write({"private": {b"k": b"later"}})
    components = {
        txid: each for batch in made.batches for txid, each in zip(batch.txids, batch.components, strict=True)
    }
    assert later.signed.node is not None
    expected = tuple(
        Expected(
            f"receipt {txid}",
            receipts.make(made.sequencer.tree, txid, components[txid], later.signed.node, parties().node),
        )
        for txid in (TxId(2, seqno) for seqno in range(1, last + 1))
    )
    foreign = Forge.governed()
    foreign.write({"private": {b"k": b"v"}}, new_chunk=True)
    foreign.write({"private": {b"k": b"v"}}, new_chunk=True)
    return Doctor(files, foreign.files()), expected


def test_the_good_one() -> None:
    """The ledger itself passes, with all its receipts."""
    doctor, expected = ledger()
    assert len(doctor.files) == 3
    report = audited(doctor.files, expected=expected)
    assert report.ok, report.failures


def doctored(count: int, seed: int) -> None:
    """Each copy is found; one that is changed at its end, where nothing signs it yet, only with a receipt."""
    (doctor, expected), rng = ledger(), random.Random(seed)
    unseen: dict[str, int] = {}
    for _ in range(count):
        copy = doctor.copy(rng)
        if not audited(copy.files).ok:
            continue
        report = audited(copy.files, expected=expected)
        assert not report.ok, copy.what
        assert is_of_the_end(doctor, copy.files), copy.what
        unseen[copy.what.split(" ")[0]] = unseen.get(copy.what.split(" ")[0], 0) + 1
    # Entries that were taken away, and bytes of the last entry, which no signature covers yet.
    assert 0 < sum(unseen.values()) < count // 4


def is_of_the_end(doctor: Doctor, files: Mapping[str, bytes]) -> bool:
    """Whether no ledger shows a change by itself: its end is gone, or its last entry has other bytes."""

    def entries(files: Mapping[str, bytes]) -> list[bytes]:
        names = sorted((ChunkName.parse(name) for name in files), key=lambda name: name.first)
        main = [str(name) for name in names if name.suffix == "committed"]
        return [raw for name in main for raw in Chunk.parse(files[name], name).entries()]

    theirs = entries(files)
    return len(theirs) > 0 and theirs[:-1] == entries(doctor.files)[: len(theirs) - 1]


def test_doctored() -> None:
    """A hundred copies."""
    doctored(FEW, 1)


@pytest.mark.slow
def test_fifty_thousand() -> None:
    """Fifty thousand copies."""
    doctored(MANY, 2)


def test_a_dropped_suffix() -> None:
    """What was taken from the end leaves no trace, and the report states it; a receipt or an id shows it."""
    doctor, expected = ledger()
    kept = {name: doctor.files[name] for name in doctor.names[:-1]}
    report = audited(kept)
    assert report.ok
    assert "entries taken from the end leave no trace in a ledger: --expect-at-least finds them" in {
        each.message for each in report.findings
    }
    assert report.verified is not None
    last = expected[-1]
    said = [each.message for each in audited(kept, expected=[last]).failures]
    assert said == [
        f"{last.name}: proves entry 2.18, and the ledger ends with {report.last}: entries were taken away"
    ]
    said = [each.message for each in audited(kept, expected=[Expected("2.18", TxId(2, 18))]).failures]
    assert said == [f"2.18: want entry 2.18, got a ledger that ends with {report.last}"]
    assert not audited(kept, expected=[Expected("3.2", TxId(3, 2))]).ok
    assert audited(kept, expected=[Expected("2.2", TxId(2, 2)), expected[0]]).ok


def test_the_last_entry() -> None:
    """A byte of the entry after the last signed root shows with a receipt of that entry only."""
    doctor, expected = ledger()
    name = doctor.names[-1]
    entries = list(doctor.chunks[name])
    raw = bytearray(entries[-1])
    raw[85] ^= 1  # its evidence digest
    files = {**doctor.files, name: write_chunk([*entries[:-1], bytes(raw)])}
    assert audited(files).ok
    assert audited(files, expected=expected[:-1]).ok
    said = [each.message for each in audited(files, expected=expected).failures]
    assert said == ["receipt 2.18: proves another entry 2.18 than the ledger has"]


def flips(files: dict[str, bytes], places: list[tuple[str, int]]) -> None:
    """Each bit before the last signed root is found."""
    for name, at in places:
        data = bytearray(files[name])
        data[at >> 3] ^= 1 << (at & 7)
        assert not audited({**files, name: bytes(data)}).ok, (name, at >> 3, at & 7)


def before_the_last_root(files: dict[str, bytes]) -> list[tuple[str, int]]:
    """Every bit of every file but those of the last entry."""
    names = sorted(files, key=lambda name: ChunkName.parse(name).first)
    last = Chunk.parse(files[names[-1]], names[-1])
    start, stop = last.offsets[-2], last.offsets[-1]
    return [
        (name, at)
        for name in names
        for at in range(8 * len(files[name]))
        if name != names[-1] or not start <= at >> 3 < stop
    ]


@real.needed
def test_some_bits() -> None:
    """A hundred single bits of a ledger by another writer."""
    files = dict(real.files("poc_dual"))
    places = before_the_last_root(files)
    flips(files, random.Random(1).sample(places, FEW))


@real.needed
@pytest.mark.slow
def test_every_bit() -> None:
    """Every single bit."""
    files = dict(real.files("poc_dual"))
    flips(files, before_the_last_root(files))
