"""The shared libraries that an image must carry, found as the loader would find them here.

Spec: ld.so(8), "Dynamic string tokens" and the search order; glibc's cache format 1.1
(``sysdeps/generic/dl-cache.h``). Variants for particular processors (glibc-hwcaps) are not taken,
so that one machine's processor does not change an image.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from kluis.errors import FormatError
from kluis.tee.image import elf

DEFAULT_FOLDERS: Final = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)
CACHE: Final = Path("/etc/ld.so.cache")
# What wheels count on finding anywhere, or the loader reads by name while a program runs. They are
# taken whether or not this image needs them, so that images of one interpreter share its layer.
ALWAYS: Final = (
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libstdc++.so.6",
    "libutil.so.1",
    "libz.so.1",
)
_CACHE_MAGIC: Final = b"glibc-ld.so.cache1.1"
_CACHE_X86_64: Final = 0x0303


@dataclasses.dataclass(frozen=True, slots=True)
class Closure:
    """Libraries by the name that others ask for, and what was asked for and not found."""

    libraries: dict[str, Path]
    missing: dict[str, list[str]]


def find(objects: Mapping[str, Path], folders: Iterable[Path] = ()) -> Closure:
    """Find every library that ``objects`` need and do not themselves hold.

    Args:
        objects: ELF files of the image, path inside to path outside; others are passed over.
        folders: where to look before the loader's own places, for libpython for one.

    Returns:
        The closure. A name that only an object inside provides is not in it.

    Raises:
        FormatError: an ELF file is damaged.
    """
    own = {path.rpartition("/")[2] for path in objects}
    search = _Search(tuple(str(folder) for folder in folders), _cache())
    libraries: dict[str, Path] = {}
    missing: dict[str, list[str]] = {}
    queue: list[tuple[str, Path, tuple[str, ...]]] = [
        (inside, outside, ()) for inside, outside in sorted(objects.items())
    ]
    seen: set[Path] = set()
    for name in ALWAYS:
        if (found := search.find(name, ())) is not None:
            libraries[name] = found
            queue.append((name, found, ()))
    while queue:
        inside, outside, inherited = queue.pop()
        real = Path(os.path.realpath(outside))
        if real in seen:
            continue
        seen.add(real)
        if (dynamic := elf.read(real)) is None:
            continue
        here = _expand(dynamic.rpath, real) if not dynamic.runpath else ()
        look = _expand(dynamic.runpath, real) or (*here, *inherited)
        for name in dynamic.needed:
            if name in libraries or name in own:
                continue
            if (found := search.find(name, look)) is None:
                missing.setdefault(name, []).append(inside)
                continue
            libraries[name] = found
            queue.append((name, found, here))
    return Closure(dict(sorted(libraries.items())), dict(sorted(missing.items())))


@dataclasses.dataclass(frozen=True, slots=True)
class _Search:
    first: tuple[str, ...]
    cache: dict[str, str]

    def find(self, name: str, look: tuple[str, ...]) -> Path | None:
        if "/" in name:
            raise FormatError(f"library {name!r}: want a name, got a path")
        cached = self.cache.get(name)
        candidates = [os.path.join(folder, name) for folder in (*look, *self.first)]
        candidates += [cached] if cached else []
        candidates += [os.path.join(folder, name) for folder in DEFAULT_FOLDERS]
        for candidate in candidates:
            path = Path(candidate)
            if path.is_file() and elf.read(path) is not None:
                return path
        return None


def _expand(folders: tuple[str, ...], where: Path) -> tuple[str, ...]:
    origin = str(where.parent)
    return tuple(
        folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
        for folder in folders
        if folder.startswith(("/", "$ORIGIN", "${ORIGIN}"))
    )


def _cache() -> dict[str, str]:
    """Read ld.so.cache: name to path, for plain x86-64 entries. A cache that is absent is empty."""
    try:
        data = CACHE.read_bytes()
    except OSError:
        return {}
    start = data.find(_CACHE_MAGIC)
    if start < 0:
        return {}
    data = data[start:]
    count = int.from_bytes(data[20:24], "little")
    found: dict[str, str] = {}
    for at in range(48, min(48 + 24 * count, len(data) - 23), 24):
        flags = int.from_bytes(data[at : at + 4], "little")
        hardware = int.from_bytes(data[at + 16 : at + 24], "little")
        if flags == _CACHE_X86_64 and hardware == 0:
            key, value = (int.from_bytes(data[at + skip : at + skip + 4], "little") for skip in (4, 8))
            found.setdefault(_text(data, key), _text(data, value))
    return found


def _text(data: bytes, at: int) -> str:
    end = data.find(b"\0", at)
    return os.fsdecode(data[at:end]) if end >= 0 else ""
