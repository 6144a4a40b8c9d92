"""Addresses of TCP, as options name them and messages print them."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from kluis.errors import UsageError

_MOST_DIGITS: Final = 5
_MOST_PORT: Final = 0xFFFF


class Address(NamedTuple):
    """An address of TCP, written as ``127.0.0.1:8443`` or ``[::1]:8443``.

    Attributes:
        host: a name or an address, without brackets.
        port: 0 to 65535; to listen on, 0 is a free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(text: str, option: str, example: str) -> Address:
    """Parse ``ADDRESS:PORT``, such as ``127.0.0.1:8443`` or ``[::1]:0``.

    Args:
        text: of an option.
        option: its name, for the error.
        example: of its value, for the error.

    Raises:
        UsageError: another form.
    """
    host, _, port = text.rpartition(":")
    inner = host.removeprefix("[").removesuffix("]")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= _MOST_DIGITS else -1
    if not _is_name(inner) or not 0 <= number <= _MOST_PORT:
        raise UsageError(f"{option}: want ADDRESS:PORT, got {text[:80]!a}", hint=f"{option} {example}")
    return Address(inner, number)


def reason_of(error: OSError) -> str:
    """Why an address cannot be listened on: as the system states it, or the lookup of its name."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else str(error.strerror)  # a lookup's numbers are negative


def _is_name(host: str) -> bool:
    """Whether a socket can look it up; otherwise it would raise an error of Python's codec for names."""
    try:
        return bool(host) and bool(host.encode("idna"))
    except UnicodeError:
        return False
