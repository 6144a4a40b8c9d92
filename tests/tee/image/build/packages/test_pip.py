"""What a person at a terminal sees of pip: one line, that is gone at the end."""

from __future__ import annotations

import io
import sys

import pytest

from kluis.tee.image.build.packages import pip

SAID = [
    "Looking in links: /wheels\n",
    "Collecting duckdb==2.0.1\n",
    "  Downloading duckdb-2.0.1-cp311-cp311-manylinux_2_28_x86_64.whl (24.9 MB)\n",
    "  Using cached a\x1b[2J-1.0-py3-none-any.whl (3 kB)\n",
    "Saved ./duckdb-2.0.1.whl\n",
]


def test_one_line_and_then_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The current download is on one line, cut to the terminal; no file name moves the cursor."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stderr", told := io.StringIO())
    pip._tell(SAID)
    anew = "\r\x1b[K"
    assert told.getvalue() == (
        f"{anew}  duckdb-2.0.1-cp311-cp311-manylinux_2_{anew}  a?[2J-1.0-py3-none-any.whl (3 kB){anew}"
    )


def test_nothing_fetched_is_nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all is there already, nothing is said, and no line of somebody else's is wiped."""
    monkeypatch.setattr(sys, "stderr", told := io.StringIO())
    pip._tell(SAID[:2])
    assert told.getvalue() == ""
