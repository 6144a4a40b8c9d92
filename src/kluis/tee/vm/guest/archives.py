"""Write archives whose bytes depend only on the files' paths, modes and contents.

Owner, group, times and inode numbers are constants.

Spec: Linux, Documentation/driver-api/early-userspace/buffer-format.rst (newc); POSIX pax, ustar.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import BinaryIO, Final

from kluis.tee.image.sources import Source

FOLDER_MODE: Final = 0o755
_FOLDER: Final = 0o040000
_FILE: Final = 0o100000
_TRAILER: Final = "TRAILER!!!"


def folders_of(paths: Iterable[str]) -> list[str]:
    """Every folder that contains one of these paths, each after the folder that contains it."""
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    return sorted(folders - {"."})


def cpio(files: Iterable[Source]) -> bytes:
    """An archive for an initial RAM disk, in the order of the paths."""
    ordered = sorted(files, key=lambda file: file.path)
    out = bytearray()
    entries = [(path, _FOLDER | FOLDER_MODE, b"") for path in folders_of(file.path for file in ordered)]
    entries += [(file.path, _FILE | file.mode, file.read()) for file in ordered]
    for number, (path, mode, data) in enumerate(entries, 1):
        _entry(out, number, path, mode, data)
    _entry(out, 0, _TRAILER, 0, b"")
    return bytes(out)


def _entry(out: bytearray, number: int, path: str, mode: int, data: bytes) -> None:
    name = path.encode() + b"\0"
    links = 2 if mode & _FOLDER else 1
    # inode, mode, owner, group, links, time, size, four device numbers, size of the name, checksum
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name), 0)
    out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
    out += bytes(-len(out) % 4)
    out += data
    out += bytes(-len(out) % 4)


def tar(files: Iterable[Source], empty: Iterable[str], out: BinaryIO) -> None:
    """Write an archive of files, their folders, and empty folders."""
    ordered = sorted(files, key=lambda file: file.path)
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(
            {*folders_of(file.path for file in ordered), *folders_of(f"{e}/x" for e in empty)}
        ):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, FOLDER_MODE
            archive.addfile(entry)
        for file in ordered:
            entry = tarfile.TarInfo(file.path)
            entry.size, entry.mode = file.size, file.mode
            archive.addfile(entry, io.BytesIO(file.read()))
