"""The quick reader of entries gives what the strict ones give, or nothing."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError
from kluis.formats.ccf.domain import PublicDomain, encode_writes, parse_writes
from kluis.formats.ccf.entry import Entry, leaf_of, write_set_digest
from kluis.services.ledger.running import quick
from kluis.services.ledger.running.log import Part
from tests.serve.ledger.batches import Writer

NAMES = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())
WRITES = st.dictionaries(
    NAMES, st.dictionaries(st.binary(max_size=8), st.none() | st.binary(max_size=40), max_size=4), max_size=3
)


def test_entries_are_read_as_the_strict_reader_reads_them() -> None:
    """Those with private writes only; a signature is left to the strict one."""
    batch, at = Writer().batch(5), 0
    for seqno, size in enumerate(batch.sizes, 1):
        raw = batch.entries[at : at + size]
        at += size
        found = quick.read(raw, seqno)
        if seqno == len(batch.sizes):
            assert found is None
            continue
        assert found is not None
        entry = Entry.parse(raw, "entry")
        domain = PublicDomain.parse(entry.public, "entry")
        assert (found.view, found.public, found.iv) == (entry.view, entry.public, entry.iv)
        assert found.sealed == entry.private + entry.tag
        assert found.leaf == leaf_of(write_set_digest(raw), domain.evidence_digest, domain.claims_digest)
        assert quick.read(raw, seqno + 1) is None
        assert Part._read_quickly(raw, seqno) == Part.read(raw, "entry")


def test_changed_entries_are_read_alike_or_left() -> None:
    """Whatever the quick reader takes, the strict one takes, and finds the same leaf."""
    raw, chosen = Writer().batch(1).entries, random.Random(5)
    raw = raw[: 8 + int.from_bytes(raw[2:8], "little")]
    for _ in range(5000):
        data = bytearray(raw)
        for _ in range(chosen.randint(1, 3)):
            data[chosen.randrange(min(len(data), 130))] ^= 1 << chosen.randrange(8)
        found = quick.read(bytes(data), 1)
        if found is None:
            continue
        entry = Entry.parse(bytes(data), "entry")
        domain = PublicDomain.parse(entry.public, "entry")
        assert entry.seqno == domain.seqno == 1
        leaf = leaf_of(write_set_digest(bytes(data)), domain.evidence_digest, domain.claims_digest)
        assert found.leaf == leaf


@given(WRITES)
def test_writes_are_read_as_the_strict_reader_reads_them(
    writes: dict[str, dict[bytes, bytes | None]],
) -> None:
    """Every form that a node writes."""
    data = encode_writes(writes)
    assert quick.writes(data) == parse_writes(data, "entry")


@given(WRITES, st.randoms(use_true_random=False))
def test_changed_writes_are_read_alike_or_left(
    writes: dict[str, dict[bytes, bytes | None]], chosen: random.Random
) -> None:
    """Whatever the quick reader takes, the strict one takes, and gives the same."""
    data = bytearray(encode_writes(writes))
    if data:
        data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    if chosen.random() < 0.3:
        del data[chosen.randrange(len(data) + 1) :]
    found = quick.writes(bytes(data))
    if found is None:
        return
    try:
        assert found == parse_writes(bytes(data), "entry")
    except FormatError as error:
        raise AssertionError(f"the strict reader refuses what the quick one took: {error}") from None


@given(st.lists(st.tuples(WRITES, st.binary(max_size=40)), max_size=3), st.randoms(use_true_random=False))
def test_a_form_remembers_no_more_than_it_compares(
    before: list[tuple[dict[str, dict[bytes, bytes | None]], bytes]], chosen: random.Random
) -> None:
    """After whatever it read, it gives what the strict reader gives, also of what resembles the last one."""
    form = quick.Form()
    for writes, value in before:
        again = {name: dict.fromkeys(list(changes)[:1], value) for name, changes in list(writes.items())[:1]}
        for each in (writes, again, again):
            data = encode_writes(each)
            assert form.read(data) == parse_writes(data, "entry")
        changed = bytearray(encode_writes(again))
        if changed:
            changed[chosen.randrange(len(changed))] ^= 1 << chosen.randrange(8)
        if chosen.random() < 0.5:
            changed += bytes(8)
        if (found := form.read(bytes(changed))) is not None:
            assert found == parse_writes(bytes(changed), "entry")
