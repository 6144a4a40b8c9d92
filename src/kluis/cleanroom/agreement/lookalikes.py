"""Names that look alike, such as one with letters of another alphabet.

After Unicode UAX #31, "Recommended Scripts".
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_WORD: Final = re.compile(r"[^\W\d_]+")
_ALIKE = str.maketrans("01il\u0131", "ollll")
# Latin letters that are not one of a to z with a mark, and that languages write.
_LATIN: Final = frozenset("\u00df\u00e6\u00f0\u00f8\u00fe\u0111\u0127\u0131\u0142\u014b\u0153")
# Those that people write names in today, as Unicode's names of letters begin. Whole words of others, such as
# Lisu, Cherokee and Coptic, look Latin.
_COMMON: Final = frozenset({
    "ARABIC", "ARMENIAN", "BENGALI", "BOPOMOFO", "CJK", "CYRILLIC", "DEVANAGARI",
    "ETHIOPIC", "GEORGIAN", "GREEK", "GUJARATI", "GURMUKHI", "HANGUL", "HEBREW",
    "HIRAGANA", "KANNADA", "KATAKANA", "KHMER", "LAO", "LATIN", "MALAYALAM",
    "MYANMAR", "ORIYA", "SINHALA", "TAMIL", "TELUGU", "THAANA", "THAI",
    "TIBETAN",
})  # fmt: skip
# What Japanese mixes in a word.
_JAPANESE: Final = frozenset({"CJK", "HIRAGANA", "KATAKANA"})
# Small and capital letters of other alphabets that look like Latin ones, by their small form.
_CYRILLIC = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u043a\u043c\u0442\u0432\u043d",
    "aeopcyxljshdkmtbh",
)
_GREEK = str.maketrans(
    "\u03b1\u03b2\u03b5\u03b6\u03b7\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c4\u03c7", "abezhlkmvoptx"
)


def skeleton(name: str) -> str:
    """A name reduced to what readers distinguish: without case, marks, blanks and hyphens, with look-alike
    letters unified.
    """
    plain = unicodedata.normalize("NFKD", name).casefold().translate(_CYRILLIC).translate(_GREEK)
    return "".join(each for each in plain if each.isalnum()).translate(_ALIKE).replace("rn", "m")


def odd_word(name: str) -> str:
    """The first word of a name with letters of two alphabets, or of one that is rare; "" if there is none.

    No list has every letter that looks like another; a word that looks like a Latin one and has one of them
    is mixed.
    """
    for word in _WORD.findall(unicodedata.normalize("NFKC", name)):
        alphabets = {_alphabet(each) for each in word if unicodedata.category(each) != "Lm"}
        if len(alphabets) > 1 or "rare" in alphabets:
            return str(word)
    return ""


def _alphabet(letter: str) -> str:
    """The alphabet of a letter; "rare" if names are not written in it, as of phonetic Latin letters."""
    alphabet = unicodedata.name(letter, "").partition(" ")[0]
    if alphabet == "LATIN":
        small = unicodedata.normalize("NFKD", letter)[0].lower()[0]
        return alphabet if small.isascii() or small in _LATIN else "rare"
    if alphabet not in _COMMON:
        return "rare"
    return "JAPANESE" if alphabet in _JAPANESE else alphabet
