"""Count an image's source by origin: what a person who trusts its measurement has to read."""

from __future__ import annotations

from typing import BinaryIO, Final

import msgspec

from kluis.tee.image.archive import Image

KINDS: Final = ("kluis", "interpreter", "libraries", "application")
_CHUNK: Final = 1 << 20


class Source(msgspec.Struct, frozen=True):
    """Modules in Python: how many files, and how many lines, blank ones and comments too."""

    files: int = 0
    lines: int = 0


def sources(f: BinaryIO, image: Image) -> dict[str, Source]:
    """Count the source of an image, by :data:`KINDS`; what is only bytecode or machine code does not count.

    Args:
        f: the image's file, of which every layer has been verified.
        image: as read from it.
    """
    by_kind = dict.fromkeys(KINDS, Source())
    for layer in image.layers:
        for entry in layer.files:
            if not entry.path.endswith(".py"):
                continue
            kind = _kind(layer.name, entry.path)
            f.seek(layer.data_offset + entry.offset)
            lines = _lines(f, entry.size)
            by_kind[kind] = Source(by_kind[kind].files + 1, by_kind[kind].lines + lines)
    return by_kind


def _kind(layer: str, path: str) -> str:
    if layer == "kluis" and path.startswith("kluis/"):
        return "kluis"
    return {"python": "interpreter", "app": "application"}.get(layer, "libraries")


def _lines(f: BinaryIO, size: int) -> int:
    """Lines of so many bytes; a last one without its end is one."""
    count, last, left = 0, b"\n", size
    while left and (chunk := f.read(min(left, _CHUNK))):
        count, last, left = count + chunk.count(b"\n"), chunk[-1:], left - len(chunk)
    return count + (last != b"\n")
