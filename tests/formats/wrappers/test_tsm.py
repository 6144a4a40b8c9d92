"""The files of configfs-tsm, as one collection."""

from __future__ import annotations

import pytest

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.wrappers import tsm


def test_reports() -> None:
    """A report, and the certificates that came along behind it."""
    data = tsm.wrap("sev_guest", b"report", b"table")
    assert tsm.matches(data)
    assert tsm.parse(data) == ("sev_guest", b"reporttable")
    assert tsm.parse(tsm.wrap("tdx_guest\n", b"quote", b"")) == ("tdx_guest", b"quote")


def test_refused() -> None:
    """Another provider, and certificates that a provider does not have."""
    with pytest.raises(UnsupportedError):
        tsm.parse(tsm.wrap("other_guest", b"report"))
    with pytest.raises(FormatError):
        tsm.parse(tsm.wrap("tdx_guest", b"quote", b"table"))
