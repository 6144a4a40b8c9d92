"""Read TOML within bounds: the standard library's reader takes quadratic time for a key of many parts.

Spec: TOML 1.0.0.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from typing import Any, Final

from kluis.errors import FormatError

MAX_SIZE: Final = 1 << 20
MAX_PARTS: Final = 20
MEND: Final = "fix it at the named position"
# One part of a dotted key, bare or quoted, that another follows. Each run of letters is matched only from its
# start, so the search is linear in the text.
_PART: Final = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
_LONG_KEY: Final = re.compile(f"(?<![A-Za-z0-9_-])(?:{_PART}){{{MAX_PARTS}}}")


def loads(
    data: bytes, what: str, *, max_size: int = MAX_SIZE, parse_float: Callable[[str], Any] = float
) -> dict[str, Any]:
    """Read one document.

    Args:
        data: TOML in UTF-8.
        what: name for messages.
        max_size: bytes.
        parse_float: converts a float's text.

    Raises:
        FormatError: not TOML, a key that is repeated or has more than 20 parts, or too large or too deep.
    """
    if len(data) > max_size:
        raise FormatError(f"{what}: is {len(data)} bytes, must be at most {max_size}", code="too_large")
    try:
        text = data.decode()
        if _LONG_KEY.search(text):
            raise FormatError(f"{what}: a key has more than {MAX_PARTS} parts", code="too_deep")
        return tomllib.loads(text, parse_float=parse_float)
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what}: is not TOML: {error}", hint=MEND, code="bad_encoding") from None
