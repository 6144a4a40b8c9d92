"""The exceptions msgspec can raise while decoding untrusted bytes. Always catch all three.

For text that is not UTF-8, and for nesting that is too deep, it raises Python's own exceptions.
"""

from __future__ import annotations

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
