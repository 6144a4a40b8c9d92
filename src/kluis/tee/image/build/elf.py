"""Read the dynamic section of an ELF file: the libraries it needs and where the loader looks for them.

Spec: System V ABI, "Object Files" and "Program Loading and Dynamic Linking"; x86-64 psABI. Only 64-bit
little-endian x86-64 is read; other files are recognised, not parsed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final

from kluis.errors import FormatError
from kluis.frozen import frozen

MAGIC: Final = b"\x7fELF\x02\x01\x01"
MACHINE_X86_64: Final = 62
_HEADER: Final = 64
_PROGRAM: Final = 56
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 15, 29
_MAX_DYNAMIC: Final = 1 << 20
# One name or search path. The string table is not read whole: TensorFlow's has 82 MB.
_MAX_STRING: Final = 64 << 10


@frozen
class Dynamic:
    """The libraries that one object needs, by name, and its search paths as written (``$ORIGIN`` kept)."""

    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]


def read(path: Path) -> Dynamic | None:
    """Read one file; None if it is not an x86-64 ELF object that the loader could load.

    Raises:
        FormatError: it has such a header, and inconsistent tables.
        OSError: it cannot be read.
    """
    with path.open("rb") as f:
        size = os.fstat(f.fileno()).st_size
        header = f.read(_HEADER)
        if len(header) < _HEADER or not header.startswith(MAGIC):
            return None
        if _number(header, 16, 2) not in (2, 3) or _number(header, 18, 2) != MACHINE_X86_64:
            return None
        return _Object(f, size, str(path)).dynamic(header)


@frozen
class _Object:
    f: BinaryIO
    size: int
    what: str

    def dynamic(self, header: bytes) -> Dynamic:
        at, width, count = _number(header, 32, 8), _number(header, 54, 2), _number(header, 56, 2)
        if width != _PROGRAM:
            raise FormatError(f"{self.what}: program header: want {_PROGRAM} bytes each, got {width}")
        table = self.take(at, width * count, "program headers")
        loads: list[tuple[int, int, int]] = []
        dynamic = b""
        for start in range(0, len(table), width):
            kind = _number(table, start, 4)
            offset, address = _number(table, start + 8, 8), _number(table, start + 16, 8)
            length = _number(table, start + 32, 8)
            if kind == _PT_LOAD:
                loads.append((address, offset, length))
            elif kind == _PT_DYNAMIC:
                if length > _MAX_DYNAMIC:
                    raise FormatError(f"{self.what}: dynamic section: want at most {_MAX_DYNAMIC} bytes")
                dynamic = self.take(offset, length, "dynamic section")
        return self.entries(dynamic, loads)

    def entries(self, table: bytes, loads: list[tuple[int, int, int]]) -> Dynamic:
        tags: dict[int, list[int]] = {}
        for start in range(0, len(table) - 15, 16):
            tag, value = _number(table, start, 8), _number(table, start + 8, 8)
            if tag == 0:
                break
            tags.setdefault(tag, []).append(value)
        strings = length = 0
        if _DT_STRTAB in tags:
            strings, length = self.offset(tags[_DT_STRTAB][0], loads), tags.get(_DT_STRSZ, [0])[0]
            if strings + length > self.size:
                raise FormatError(
                    f"{self.what}: string table at {strings:#x}: needs {length} bytes, passes the end"
                )

        def text(value: int) -> str:
            left = max(length - value, 0)
            raw, end, _ = self.take(strings + value, min(left, _MAX_STRING), "string").partition(b"\0")
            if not end:
                where = (
                    "outside the string table" if left <= _MAX_STRING else f"longer than {_MAX_STRING} bytes"
                )
                raise FormatError(f"{self.what}: string at {value:#x}: {where}")
            return os.fsdecode(raw)

        def paths(tag: int) -> tuple[str, ...]:
            return tuple(part for value in tags.get(tag, []) for part in text(value).split(":") if part)

        return Dynamic(
            needed=tuple(text(value) for value in tags.get(_DT_NEEDED, [])),
            rpath=paths(_DT_RPATH),
            runpath=paths(_DT_RUNPATH),
        )

    def offset(self, address: int, loads: list[tuple[int, int, int]]) -> int:
        for start, offset, length in loads:
            if start <= address < start + length:
                return address - start + offset
        raise FormatError(f"{self.what}: address {address:#x}: in no segment of the file")

    def take(self, offset: int, length: int, field: str) -> bytes:
        if offset + length > self.size:
            raise FormatError(f"{self.what}: {field} at {offset:#x}: needs {length} bytes, passes the end")
        self.f.seek(offset)
        return self.f.read(length)


def _number(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "little")
