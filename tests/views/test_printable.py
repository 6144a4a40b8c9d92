"""Others' words are shown, and a terminal obeys none of them."""

from __future__ import annotations

import pytest

from kluis.views.printable import harmless


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, in lines\n\tand Ünïcode: 龍", "plain, in lines\n\tand Ünïcode: 龍"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\rb\x7f\x9b\x85", r"a\rb\x7f\x9b\x85"),
        ("level \u202enon\u202c", r"level \u202enon\u202c"),
        ("\u2028\U000e0041\ud800", r"\u2028\U000e0041\ud800"),
        ("1\u00a0000", "1\u00a0000"),
    ],
)
def test_harmless(text: str, shown: str) -> None:
    """Controls, marks of direction and other ends of lines are written, and not sent."""
    assert harmless(text) == shown
