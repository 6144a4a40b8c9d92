"""Shares and wrapped secrets, as a ledger holds them."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.entry import Entry
from kluis.formats.ccf.shares import PRIME, PastSecret, RecoveryShares, Share
from tests.formats.ccf import real
from tests.strategies import PROPERTY, mutations

SHARES = RecoveryShares(wrapped=bytes(60), shares={"a": b"1", "b": b"2"}, previous=18).encode()
PAST = PastSecret(next_version=484, encrypted=bytes(60), version=1, previous=18).encode()


def test_share() -> None:
    """Eleven numbers, little-endian; a repr shows none of the secret ones."""
    share = Share(1, tuple(range(10)))
    raw = share.encode()
    assert (len(raw), raw[:8], Share.parse(raw, "share")) == (44, b"\1\0\0\0\0\0\0\0", share)
    assert repr(share) == "Share(x=1)"
    for wrong in (raw[:-1], raw + b"\0", raw[:40] + PRIME.to_bytes(4, "little")):
        with pytest.raises(FormatError):
            Share.parse(wrong, "share")


def test_recovery_shares() -> None:
    """Canonical JSON; what a secret was stored before may be missing."""
    read = RecoveryShares.parse(SHARES, "shares")
    assert (read.previous, dict(read.shares), read.encode()) == (18, {"a": b"1", "b": b"2"}, SHARES)
    assert b"previous" not in RecoveryShares(wrapped=bytes(60), shares={}).encode()
    for wrong in (SHARES.replace(b"MQ==", b"MQ"), SHARES.replace(b"AAAA", b"AA", 1), b"{}", b"[]"):
        with pytest.raises(FormatError):
            RecoveryShares.parse(wrong, "shares")


def test_past_secret() -> None:
    """The first has a next version only; a rekey's has none; later ones have both."""
    read = PastSecret.parse(PAST, "secret")
    assert (read.next_version, read.version, read.previous, read.encode()) == (484, 1, 18, PAST)
    for made in (PastSecret(next_version=1), PastSecret(encrypted=bytes(60), version=3)):
        assert PastSecret.parse(made.encode(), "secret") == made
    for wrong in (PAST.replace(b'"version":1', b'"version":0'), PAST.replace(b"AAAA", b"", 1), b"1"):
        with pytest.raises(FormatError):
            PastSecret.parse(wrong, "secret")


@given(mutations(SHARES, PAST))
@PROPERTY
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes, but for members that are not known."""
    for kind in (RecoveryShares, PastSecret):
        try:
            read = kind.parse(data, "value")
        except FormatError:
            continue
        assert kind.parse(read.encode(), "value") == read


@real.needed
def test_real() -> None:
    """The values of real ledgers are written back to the same bytes."""
    found = 0
    for name in ("acme", "flipflop", "double_sealed"):
        for raw in real.entries(name):
            writes = PublicDomain.parse(Entry.parse(raw, "entry").public, "entry").writes
            for table, kind in ((tables.RECOVERY_SHARES, RecoveryShares), (tables.PAST_SECRETS, PastSecret)):
                if (value := writes.get(table, {}).get(tables.ONLY)) is not None:
                    assert kind.parse(value, "value").encode() == value
                    found += 1
    assert found == 11
