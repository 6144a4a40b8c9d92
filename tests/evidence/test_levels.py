"""Protection levels: each has a description of its worth."""

from __future__ import annotations

from kluis.evidence import ProtectionLevel
from kluis.evidence.levels import MEANINGS


def test_every_level_says_what_it_does_not_keep_out() -> None:
    """No level is without a list of what it lets in."""
    assert set(MEANINGS) == set(ProtectionLevel)
    assert all(meaning.keys and meaning.keeps_out and meaning.lets_in for meaning in MEANINGS.values())


def test_worst_first() -> None:
    """The first level is ``none``, and software comes before hardware."""
    levels = list(ProtectionLevel)
    assert levels[0] is ProtectionLevel.NONE
    assert sorted(levels, key=lambda level: level.hardware) == levels


def test_none_is_nobodys() -> None:
    """Genuine hardware in debug mode has level none, too: it is not reported as the local root's."""
    meaning = MEANINGS[ProtectionLevel.NONE]
    assert "local" not in meaning.keys
    assert meaning.keeps_out.startswith("nobody")
