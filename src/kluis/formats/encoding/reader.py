"""A cursor over variable-length bytes: every read is bounded, and errors name the field."""

from __future__ import annotations

from typing import Literal

from kluis.errors import FormatError


class Reader:
    """Reads ``data`` from front to end; each error states the field, its offset and its size.

    Args:
        data: the bytes to read.
        what: what they claim to be, for messages.
        base: offset of ``data`` in what the caller reads, for messages.
        byte_order: of each integer.
    """

    __slots__ = ("_base", "_byte_order", "_data", "_position", "what")

    def __init__(
        self, data: bytes, what: str, base: int = 0, *, byte_order: Literal["little", "big"] = "little"
    ) -> None:
        self._data = data
        self._position = 0
        self._base = base
        self._byte_order = byte_order
        self.what = what

    @property
    def position(self) -> int:
        """How many bytes have been read."""
        return self._position

    @property
    def left(self) -> int:
        """How many bytes are still unread."""
        return len(self._data) - self._position

    def take(self, size: int, field: str) -> bytes:
        """Read exactly ``size`` bytes of ``field``.

        Raises:
            FormatError: fewer are left (code ``truncated``).
        """
        start = self._position
        stop = start + size
        if stop > len(self._data):
            raise FormatError(
                f"{self.what}.{field} at {self._base + self._position:#x}: "
                f"needs {size} bytes, {self.left} left",
                code="truncated",
            )
        self._position = stop
        return self._data[start:stop]

    def u8(self, field: str) -> int:
        """Read an unsigned byte."""
        return self.take(1, field)[0]

    def u16(self, field: str) -> int:
        """Read an unsigned integer of 2 bytes."""
        return int.from_bytes(self.take(2, field), self._byte_order)

    def u24(self, field: str) -> int:
        """Read an unsigned integer of 3 bytes."""
        return int.from_bytes(self.take(3, field), self._byte_order)

    def u32(self, field: str) -> int:
        """Read an unsigned integer of 4 bytes."""
        return int.from_bytes(self.take(4, field), self._byte_order)

    def u64(self, field: str) -> int:
        """Read an unsigned integer of 8 bytes."""
        return int.from_bytes(self.take(8, field), self._byte_order)

    def zeros(self, size: int, field: str) -> None:
        """Read ``size`` bytes that must all be zero.

        Raises:
            FormatError: one is not, or fewer are left.
        """
        start = self._base + self._position
        for index, value in enumerate(self.take(size, field)):
            if value:
                raise FormatError(
                    f"{self.what}.{field} at {start + index:#x}: must be zero, found {value:#04x}",
                    code="trailing_data" if field == "padding" else "bad_encoding",
                )

    def fields(self, field: str, most: int) -> list[tuple[int, bytes]]:
        """Read all remaining bytes as fields: type and size, 2 bytes each, and a value.

        Raises:
            FormatError: one is cut short, or there are more than ``most``.
        """
        data, position, end, order = self._data, self._position, len(self._data), self._byte_order
        parsed: list[tuple[int, bytes]] = []
        while position < end:
            start = position + 4
            after = start + int.from_bytes(data[position + 2 : start], order)
            if after > end or start > end:
                raise FormatError(
                    f"{self.what}.{field} at {self._base + position:#x}: needs {after - position} bytes, "
                    f"{end - position} left",
                    code="truncated",
                )
            if len(parsed) == most:
                raise FormatError(
                    f"{self.what}.{field} at {self._base + position:#x}: more than {most} fields",
                    code="too_large",
                )
            parsed.append((int.from_bytes(data[position : position + 2], order), data[start:after]))
            position = after
        self._position = end
        return parsed

    def sub(self, size: int, field: str) -> Reader:
        """Read ``size`` bytes as a separate cursor, named after ``field``."""
        start = self._base + self._position
        return Reader(self.take(size, field), f"{self.what}.{field}", start, byte_order=self._byte_order)

    def end(self) -> None:
        """Refuse remaining bytes.

        Raises:
            FormatError: bytes are left (code ``trailing_data``).
        """
        if self.left:
            raise FormatError(
                f"{self.what} at {self._base + self._position:#x}: {self.left} bytes after the end",
                code="trailing_data",
            )
