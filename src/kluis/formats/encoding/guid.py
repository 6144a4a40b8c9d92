"""GUIDs as firmware writes them: 16 bytes, the first three groups little-endian.

Spec: UEFI specification, "EFI_GUID".
"""

from __future__ import annotations

SIZE = 16


def encode(text: str) -> bytes:
    """Write ``63da758d-e664-4564-adc5-f4b93be8accd`` as its 16 bytes."""
    first, second, third, *rest = map(bytes.fromhex, text.split("-"))
    return first[::-1] + second[::-1] + third[::-1] + b"".join(rest)


def decode(data: bytes) -> str:
    """Read 16 bytes as lower-case text in five groups."""
    parts = data[3::-1], data[5:3:-1], data[7:5:-1], data[8:10], data[10:]
    return "-".join(part.hex() for part in parts)
