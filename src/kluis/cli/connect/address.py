"""An address of TCP, as the command line prints it."""

from __future__ import annotations

from typing import NamedTuple


class Address(NamedTuple):
    """An address of TCP.

    Attributes:
        host: a name or an address, without brackets.
        port: 0 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
