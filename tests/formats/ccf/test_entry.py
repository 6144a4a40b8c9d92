"""Entries: headers, and the components of a leaf."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given

from kluis.errors import FormatError, UsageError
from kluis.formats.ccf import entry
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.entry import Entry
from kluis.hashes import sha256
from tests.formats.ccf import real
from tests.strategies import PROPERTY, mutations

MADE = Entry(flags=1, tag=bytes(range(16)), seqno=7, view=2, public=b"public", private=b"private")
GOOD = MADE.encode()


def test_layout() -> None:
    """Header, tag, IV, the public domain and its size, and the private one."""
    assert GOOD.hex() == (
        "0101" + "310000000000" + bytes(range(16)).hex() + "0700000000000000" + "02000000"
        "0600000000000000" + b"publicprivate".hex()
    )
    assert Entry.parse(GOOD, "entry") == MADE
    assert MADE.iv == GOOD[24:36]


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (b"\x02" + GOOD[1:], "entry.version: want 1, got 2", "bad_type"),
        (b"\x01\x04" + GOOD[2:], "entry.flags: want 0 to 3, got 4", "bad_encoding"),
        (GOOD[:2] + b"\x23" + GOOD[3:], "entry.size: want 36 to 1073741824, got 35", "bad_length"),
        (GOOD[:7] + b"\x01" + GOOD[8:], "entry.size: want 36 to 1073741824, got 1099511627825", "too_large"),
        (GOOD[:-1], "entry.size at 0x2: want 48, got 49", "truncated"),
        (GOOD + b"\0", "entry.size at 0x2: want 50, got 49", "trailing_data"),
        (GOOD[:7], "entry.size at 0x2: needs 6 bytes, 5 left", "truncated"),
        (GOOD[:35] + b"\x80" + GOOD[36:], "entry.view at 0x20: is 2147483650", "bad_encoding"),
        (
            GOOD[:36] + b"\x0e" + GOOD[37:],
            "entry.public domain at 0x2c: needs 14 bytes, 13 left",
            "truncated",
        ),
    ],
)
def test_refused(data: bytes, message: str, code: str) -> None:
    """What is no entry is refused, with what and where."""
    with pytest.raises(FormatError) as caught:
        Entry.parse(data, "entry")
    assert (str(caught.value), caught.value.code) == (message, code)


def test_snapshot_view() -> None:
    """A snapshot's view has its top bit set, and no other entry's has."""
    raw = dataclasses.replace(MADE, view=entry.SNAPSHOT_VIEW).encode()
    assert Entry.parse(raw, "snapshot", snapshot=True).view == 1 << 31
    with pytest.raises(FormatError):
        Entry.parse(GOOD, "snapshot", snapshot=True)


def test_unwritable() -> None:
    """Unknown flags and a short tag are the caller's mistake."""
    for wrong in (dataclasses.replace(MADE, flags=4), dataclasses.replace(MADE, tag=b"")):
        with pytest.raises(UsageError):
            wrong.encode()


def test_leaf_by_kind() -> None:
    """A leaf covers the digests of its entry's kind; that of the oldest kind only covers the write set."""
    w, e, c = bytes(32), b"e" * 32, b"c" * 32
    assert entry.leaf_of(w, None, None) == w
    assert entry.leaf_of(w, e, None) == sha256(w + e)
    assert entry.leaf_of(w, None, c) == sha256(w + c)
    assert entry.leaf_of(w, e, c) == sha256(w + e + c)


@real.needed
def test_known_leaf() -> None:
    """The write-set digest and the leaf of an entry are those that other programs computed."""
    known = real.answers()["tx_2_17"]
    raw = bytes.fromhex(known["entry_hex"])
    public = PublicDomain.parse(Entry.parse(raw, "entry").public, "entry")
    digest = entry.write_set_digest(raw)
    assert digest.hex() == known["write_set_digest"]
    assert entry.leaf_of(digest, public.evidence_digest, public.claims_digest).hex() == known["leaf"]


@given(mutations(GOOD))
@PROPERTY
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = Entry.parse(data, "entry")
    except FormatError:
        return
    assert read.encode() == data
