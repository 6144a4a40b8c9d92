"""Read times in certificates. Spec: RFC 5280, "Validity": UTCTime and GeneralizedTime, in Z, with seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kluis.errors import FormatError

UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18


def read_instant(data: bytes, position: int, limit: int, what: str) -> tuple[datetime, int]:
    """Read the time at ``position``; return it, aware, and its end offset.

    Raises:
        FormatError: not a time in the form of RFC 5280.
    """
    tag = data[position] if position < limit else None
    size = 13 if tag == UTC_TIME else 15
    end = position + 2 + size
    text = data[position + 2 : end]
    if tag not in (UTC_TIME, GENERALIZED_TIME) or end > limit or data[position + 1] != size:
        raise FormatError(f"{what} at {position:#x}: want a time", code="bad_encoding")
    if text[-1:] != b"Z" or not text[:-1].isdigit():
        raise FormatError(
            f"{what} at {position:#x}: want a time of digits that ends in Z", code="bad_encoding"
        )
    if tag == UTC_TIME:
        text = (b"19" if text[0] >= 0x35 else b"20") + text
    digits = text.decode()
    try:
        # The hour 24, which some versions of Python parse as midnight, is refused here.
        moment = datetime.fromisoformat(f"{digits[:8]}T{digits[8:]}" if digits[8:10] < "24" else "")
    except ValueError:
        raise FormatError(f"{what} at {position:#x}: is no time of any day", code="bad_encoding") from None
    return moment, end
