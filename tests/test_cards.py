"""A card is a table of text: no text in it is markup, and none hides or turns other text."""

from __future__ import annotations

import pytest

from kluis.cards import MOST_CHARACTERS, MOST_ROWS, card
from tests.appraisal.rules.test_appraise import _judge
from tests.views.test_report_html import _Reader


def _read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert reader.attributes == set()
    assert reader.tags <= {"div", "strong", "table", "tr", "th", "td", "ul", "li"}
    return reader


@pytest.mark.parametrize("text", ["<script>x</script>", "</table><img src=x>", '" onclick="x', "&lt;b&gt;"])
def test_text_is_text(text: str) -> None:
    """A hostile title, name, value or note is shown as it is."""
    reader = _read(card(text, [(text, text)], [text]))
    assert reader.text == [text] * 4


def test_text_that_turns_other_text() -> None:
    """Direction marks and control characters are replaced."""
    assert _read(card("a\u202eb\x1b[2J", [])).text == ["a?b?[2J"]


def test_bounds() -> None:
    """A long value is cut, and many rows are counted."""
    reader = _read(card("a", [("b", "c" * (MOST_CHARACTERS + 1))] * (MOST_ROWS + 2)))
    assert reader.text[2] == "c" * MOST_CHARACTERS
    assert reader.text[-1] == ".. and 2 more"


def test_a_verdict() -> None:
    """A result shows its verdict, its rules, the failed ones first, and what its level does not keep out."""
    result = _judge(nonce=b"\1" * 16)
    text = _read(result._repr_html_()).text
    assert text[0].startswith("contraindicated (1 of 20 rules failed); protection level process")
    assert text[1] == "FAILS: nonce"
    assert [each for each in text if each.startswith("met: ")]
    for each in result.not_kept_out:
        assert f"not kept out: {each}" in text
