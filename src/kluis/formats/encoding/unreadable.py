"""What msgspec raises for bytes that are not what they should be: in one place, for it is easily forgotten.

Of text that is no UTF-8, and of nesting that goes too deep, it tells by Python's own errors.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["UNREADABLE"]

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
