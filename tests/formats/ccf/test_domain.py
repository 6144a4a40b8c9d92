"""Domains: records of maps, read strictly and written back to the same bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, UsageError
from kluis.formats.ccf import domain
from kluis.formats.ccf.domain import Kind, PublicDomain
from kluis.formats.ccf.entry import Entry
from tests.formats.ccf import real
from tests.strategies import PROPERTY, mutations

U64 = (1).to_bytes(8, "little")
EVIDENCE = bytes(range(32))
WRITES = {
    "public:a": {b"k": b"v", b"": b"", b"gone": None},
    "public:b": {},
    "public:é": {b"\xff": bytes(300)},
}
GOOD = PublicDomain(seqno=7, evidence_digest=EVIDENCE, writes=WRITES).encode()


def record(name: bytes, *rest: bytes) -> bytes:
    """A record with no version and no reads, then ``rest``."""
    return len(name).to_bytes(8, "little") + name + bytes(16) + b"".join(rest)


def test_written_and_read() -> None:
    """A domain contains its digests and its writes; a removal is stored as None."""
    read = PublicDomain.parse(GOOD, "entry 7")
    assert read == PublicDomain(seqno=7, evidence_digest=EVIDENCE, writes=WRITES)
    assert read.kind is Kind.EVIDENCE_AND_CLAIMS
    assert read.claims_digest == bytes(32)
    assert read.encode() == GOOD


@pytest.mark.parametrize(
    ("kind", "claims", "evidence", "size"),
    [
        (Kind.WRITES, None, None, 17),
        (Kind.CLAIMS, bytes(32), None, 49),
        (Kind.EVIDENCE, None, EVIDENCE, 49),
        (Kind.EVIDENCE_AND_CLAIMS, bytes(32), EVIDENCE, 81),
    ],
)
def test_kinds(kind: Kind, claims: bytes | None, evidence: bytes | None, size: int) -> None:
    """Each kind has the digests of its name."""
    made = PublicDomain(kind=kind, seqno=3, claims_digest=claims, evidence_digest=evidence, writes={})
    assert len(made.encode()) == size
    assert PublicDomain.parse(made.encode(), "entry") == made
    with pytest.raises(UsageError):
        PublicDomain(
            kind=kind,
            seqno=3,
            claims_digest=b"" if claims is None else None,
            evidence_digest=evidence,
            writes={},
        ).encode()


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (b"\x01" + GOOD[1:], "entry.type at 0x0: want 0, 2, 3 or 4, got 1", "bad_type"),
        (b"\x05" + GOOD[1:], "entry.type at 0x0: want 0, 2, 3 or 4, got 5", "bad_type"),
        (GOOD[:1] + bytes(8) + GOOD[9:], "entry.seqno: want 1 to 2^63-1, got 0", "bad_encoding"),
        (
            GOOD[:73] + U64 + GOOD[81:],
            "entry.max_conflict_version at 0x49: must be zero, found 0x01",
            "bad_encoding",
        ),
        (GOOD[:80], "entry.max_conflict_version at 0x49: needs 8 bytes, 7 left", "truncated"),
        (GOOD[:81] + bytes(8), "entry.name: want 1 to 1024 bytes, got 0", "bad_length"),
        (GOOD[:81] + b"\xff" * 8, f"entry.name: want 1 to 1024 bytes, got {(1 << 64) - 1}", "too_large"),
        (GOOD[:81] + record(b"\xff"), "entry.name: is not UTF-8", "bad_encoding"),
        (GOOD[:81] + record(b"a", bytes(16)) * 2, "entry.a: occurs twice", "duplicate_key"),
        (
            GOOD[:81] + record(b"a", b"\x02" + bytes(7), (U64 + b"k" + U64 + b"v") * 2, bytes(8)),
            "entry.a: a key occurs twice",
            "duplicate_key",
        ),
        (
            GOOD[:81] + record(b"a", U64, U64 + b"k" + U64 + b"v", U64, U64 + b"k"),
            "entry.a: a key occurs twice",
            "duplicate_key",
        ),
        (
            GOOD[:81] + U64 + b"a" + U64 + bytes(24),
            "entry.read_version at 0x5a: must be zero, found 0x01",
            "bad_encoding",
        ),
        (
            GOOD[:81] + U64 + b"a" + bytes(8) + U64 + bytes(16),
            "entry.reads at 0x62: must be zero, found 0x01",
            "bad_encoding",
        ),
        (
            GOOD[:81] + record(b"a", b"\xff" * 8),
            "entry.key at 0x72: needs 8 bytes, 0 left",
            "truncated",
        ),
    ],
)
def test_refused(data: bytes, message: str, code: str) -> None:
    """What is no domain is refused, with what and where."""
    with pytest.raises(FormatError) as caught:
        PublicDomain.parse(data, "entry")
    assert (str(caught.value), caught.value.code) == (message, code)


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
changes = st.dictionaries(st.binary(max_size=8), st.none() | st.binary(max_size=40), max_size=4)


@given(st.dictionaries(names, changes, max_size=4))
@PROPERTY
def test_any_writes(writes: dict[str, dict[bytes, bytes | None]]) -> None:
    """Whatever is written is read again, and written to the same bytes."""
    raw = domain.encode_writes(writes)
    read = domain.parse_writes(raw, "entry")
    assert read == writes
    assert domain.encode_writes(read) == raw


@given(mutations(GOOD))
@PROPERTY
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = PublicDomain.parse(data, "entry")
    except FormatError:
        return
    assert read.encode() == data


@real.needed
@pytest.mark.parametrize("name", real.ENTRIES)
def test_real(name: str) -> None:
    """Each entry of real ledgers parses, has its place, and is written back to the same bytes."""
    count = 0
    for count, raw in enumerate(real.entries(name), 1):
        entry = Entry.parse(raw, f"entry {count}")
        read = PublicDomain.parse(entry.public, f"entry {count}")
        assert entry.encode() == raw
        assert read.encode() == entry.public
        assert read.seqno == entry.seqno == count
    assert count == real.ENTRIES[name]
