"""A claim is what is recorded, whatever either is written as, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kluis.evidence import TcbStatus
from kluis.formats.snp.flags import SigningKey
from kluis.hashes import sha256
from tests.corpus.same import same

DAY = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (b"\x0a\xff", "0aff"),
        (b"\x0a\xff", "0AFF"),
        (sha256(b""), sha256(b"").hex()),
        (10, 10),
        (10, "0xa"),
        (True, True),
        ("Milan", "milan"),
        (TcbStatus.UP_TO_DATE, "UpToDate"),
        (SigningKey.VLEK, "VLEK"),
        (DAY, "2026-01-31T00:00:00Z"),
        ((1, 2), [1, 2]),
        (frozenset({"a", "b"}), ["b", "A"]),
        ((), []),
        (None, None),
        (None, "00" * 48),
        (bytes(32), None),
        ({"fmc": None, "boot_loader": 3}, {"bootloader": 3}),
        ({0: b"\1"}, {"0": "01"}),
    ],
)
def test_the_same(got: Any, want: Any) -> None:
    """Hex, numbers in hex, names of enums, times, and the ways to write that there is none."""
    assert same(got, want)


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (b"\x0a", "0b"),
        (b"\x0a", 10),
        (10, "a"),
        (10, 11),
        (1, True),
        (True, 1),
        (False, None),
        (None, "01"),
        (b"\1", None),
        (TcbStatus.UP_TO_DATE, "OutOfDate"),
        (DAY, "2026-01-30T00:00:00Z"),
        (DAY, None),
        ((1, 2), [2, 1]),
        ((1, 2), [1]),
        (frozenset({"a", "b"}), ["a", "a"]),
        (frozenset({"a", "b"}), ["a", "c"]),
        (frozenset({"a"}), ["a", "a"]),
        (frozenset({"a"}), "a"),
        ((1,), 1),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"a": 1}, [1]),
        ("x", 1),
    ],
)
def test_not_the_same(got: Any, want: Any) -> None:
    """Another value, another type, another order, a member more or fewer."""
    assert not same(got, want)
