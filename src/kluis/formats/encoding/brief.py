"""Bytes and times in short forms, for people."""

from __future__ import annotations

import datetime


def short(data: bytes) -> str:
    """``data`` in hex, shortened in the middle if it is long."""
    text = data.hex()
    return text if len(text) <= 20 else f"{text[:8]}..{text[-4:]}"


def instant(time: datetime.datetime) -> str:
    """A time in UTC, as RFC 3339 writes it, with its microseconds if it has any."""
    return time.isoformat().replace("+00:00", "Z")


def until(time: datetime.datetime, timespec: str = "seconds") -> str:
    """The end of validity; the last representable year means that there is no end."""
    if time.year == datetime.MAXYEAR:
        return "without end"
    return f"until {time.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(timespec=timespec)}Z"
