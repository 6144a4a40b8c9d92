"""Names that look alike, such as one with letters of another alphabet."""

from __future__ import annotations

import unicodedata

_ALIKE = str.maketrans("01il", "olll")
# Small and capital letters of other alphabets that look like Latin ones, by their small form.
_CYRILLIC = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u043a\u043c\u0442\u0432\u043d",
    "aeopcyxljshdkmtbh",
)
_GREEK = str.maketrans(
    "\u03b1\u03b2\u03b5\u03b6\u03b7\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c4\u03c7", "abezhlkmvoptx"
)


def skeleton(name: str) -> str:
    """A name reduced to what readers distinguish: without case, blanks and hyphens, with look-alike letters
    unified.
    """
    plain = unicodedata.normalize("NFKC", name).casefold().translate(_CYRILLIC).translate(_GREEK)
    return "".join(each for each in plain if each.isalnum()).translate(_ALIKE).replace("rn", "m")
