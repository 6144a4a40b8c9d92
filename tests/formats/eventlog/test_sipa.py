"""Windows' events within events: read in order, and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError
from kluis.formats.eventlog import sipa
from kluis.formats.eventlog.sipa import Sipa


def one(kind: int, value: bytes) -> bytes:
    """One event."""
    return kind.to_bytes(4, "little") + len(value).to_bytes(4, "little") + value


DEBUG = one(Sipa.OSKERNELDEBUG, b"\1")
WITHIN = one(0x40010001, DEBUG + one(Sipa.VBS_HVCI_POLICY, (3).to_bytes(8, "little")))


def test_events_within_events() -> None:
    """A container comes before its contents."""
    found = list(sipa.flat(sipa.tree(WITHIN)))
    assert [kind for kind, _ in found] == [0x40010001, Sipa.OSKERNELDEBUG, Sipa.VBS_HVCI_POLICY]
    assert sipa.number(found[2][1]) == 3
    assert sipa.matches(WITHIN)
    assert sipa.matches(DEBUG)


def test_others_tags() -> None:
    """What systemd tags in the same registers is not Windows'."""
    assert not sipa.matches(one(0x6C46F751, b"data"))
    assert not sipa.matches(b"")


@given(st.integers(0, len(WITHIN)), st.binary(max_size=4))
def test_only_our_errors(at: int, put: bytes) -> None:
    """Whatever bytes there are, only our errors escape."""
    try:
        list(sipa.flat(sipa.tree(WITHIN[:at] + put + WITHIN[at + len(put) :])))
    except FormatError:
        return


def test_bounds() -> None:
    """Too deep, too many, too long: each is refused."""
    deep = DEBUG
    for _ in range(5):
        deep = one(0x40010001, deep)
    for data, message in (
        (deep, "WBCL: nested more than 4 deep"),
        (DEBUG * 5000, "WBCL: more than 4096 events"),
    ):
        with pytest.raises(FormatError) as refused:
            list(sipa.flat(sipa.tree(data)))
        assert refused.value.message == message
    with pytest.raises(FormatError):
        sipa.number(bytes(9))
