"""Read a wheel strictly: its files are exactly those of its RECORD, and no code runs automatically.

Spec: PyPA, "Binary distribution format" (wheel 1.0) and "Recording installed projects" (RECORD).
"""

from __future__ import annotations

import base64
import binascii
import csv
import fnmatch
import hashlib
import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kluis import files
from kluis.errors import AuthenticityError, FormatError, UnavailableError, UnsupportedError, UsageError
from kluis.frozen import frozen
from kluis.tee.image import layers, sources
from kluis.tee.image.build import compiler, inside
from kluis.tee.image.sources import Source

MAX_UNPACKED_BYTES: Final = 16 << 30
MAX_RECORD_BYTES: Final = 32 << 20
CHUNK: Final = 1 << 20
NEVER_READ: Final = "the interpreter inside reads no .pth file"
NOT_UTF8: Final = "an image takes source in UTF-8 only"
OUTSIDE: Final = "an image has a place for packages only"
# Files that an installer puts elsewhere. Spec: PyPA, "Binary distribution format", the .data folder.
_INSTALLED: Final = ("scripts", "headers", "data")
_SIGNATURES: Final = ("RECORD", "RECORD.jws", "RECORD.p7s")


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hex.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@frozen
class Unpacked:
    """The files of a wheel that go into an image.

    Attributes:
        files: in the order of RECORD.
        notes: what was left out and may be missed by the author, one per line.
    """

    files: list[Source]
    notes: list[str]


def unpack(wheel: Path, folder: Path, left_out: tuple[str, ...] = ()) -> Unpacked:
    """Unpack a wheel whose hash was checked into ``folder``, and list what goes into an image.

    Files whose path matches one of ``left_out`` (shell patterns) are checked and left out. So are ``.pth``
    files, which the interpreter inside never reads, files that an installer would put outside the packages,
    and modules in another encoding than UTF-8; notes report them. Files that an earlier build left there are
    used only if they still have RECORD's hash.

    Raises:
        UsageError: the wheel has a file that an image does not accept; names it.
        FormatError: it is not a wheel, or its RECORD and its files differ.
        AuthenticityError: a file does not match RECORD.
    """
    what = wheel.name
    try:
        with zipfile.ZipFile(wheel) as archive:
            unused: dict[str, list[str]] = {}
            unpacked = list(_files(archive, what, folder, left_out, unused))
        _prune(folder, {folder / file.path for file in unpacked})
        return Unpacked(unpacked, [_note(what, reason, paths) for reason, paths in unused.items()])
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise FormatError(f"{what}: is not a wheel that can be read: {error}") from error
    except OSError as error:
        raise UnavailableError(f"{what}: cannot be unpacked: {error}") from error


def _note(what: str, reason: str, paths: list[str]) -> str:
    more = f" and {len(paths) - 1} more are" if len(paths) > 1 else " is"
    return f"{what}: {paths[0]}{more} left out: {reason}"


def _files(
    archive: zipfile.ZipFile,
    what: str,
    folder: Path,
    left_out: tuple[str, ...],
    unused: dict[str, list[str]],
) -> Iterator[Source]:
    members = _members(archive, what)
    info = _dist_info(members, what)
    record = _record(archive, members, f"{info}/RECORD", what)
    for path in members:
        if path not in record and path not in {f"{info}/{name}" for name in _SIGNATURES}:
            raise FormatError(f"{what}: {path}: is not in its RECORD")
    for path, digest in record.items():
        if path not in members:
            raise FormatError(f"{what}: {path}: is in its RECORD and nowhere else")
        target = _target(path, info.removesuffix(".dist-info"), what)
        if any(fnmatch.fnmatchcase(target or path, pattern) for pattern in left_out):
            continue
        if target is None:
            if not path.partition("/")[2].startswith("scripts/"):  # Nothing starts a program inside.
                unused.setdefault(OUTSIDE, []).append(path)
            continue
        if not inside.kept_metadata(target):
            continue
        if target.endswith(".pth"):
            unused.setdefault(NEVER_READ, []).append(target)
            continue
        sources.refuse_hooks(target, what)
        member = members[path]
        origin = folder / target
        if not _holds(origin, member.file_size, digest):
            _extract(archive, member, origin, digest, what)
        made = Source(target, layers.FILE_MODE, member.file_size, digest, origin, tree=folder)
        if target.endswith(".py") and compiler.other_encoding(made.head(compiler.HEAD_BYTES + 1)) is not None:
            unused.setdefault(NOT_UTF8, []).append(target)
            continue
        yield made


def _members(archive: zipfile.ZipFile, what: str) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for member in archive.infolist():
        if member.is_dir():
            continue
        path = member.filename
        layers.check_path(path, f"{what}: {path!r}")
        if path in members:
            raise FormatError(f"{what}: {path}: appears twice")
        mode = member.external_attr >> 16
        if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
            raise UsageError(f"{what}: {path}: want a regular file, got a link or a device")
        total += member.file_size
        members[path] = member
    if total > MAX_UNPACKED_BYTES or len(members) > layers.MAX_FILES:
        raise UsageError(f"{what}: want at most {MAX_UNPACKED_BYTES} bytes unpacked, got {total}")
    return members


def _dist_info(members: dict[str, zipfile.ZipInfo], what: str) -> str:
    places = [path.split("/") for path in members]
    folders = {place[0] for place in places if place[1:] == ["RECORD"] and place[0].endswith(".dist-info")}
    if len(folders) != 1:
        raise FormatError(f"{what}: want one dist-info folder with a RECORD, got {len(folders)}")
    return folders.pop()


def _record(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], path: str, what: str
) -> dict[str, str]:
    if members[path].file_size > MAX_RECORD_BYTES:
        raise FormatError(f"{what}: RECORD: want at most {MAX_RECORD_BYTES} bytes")
    hashes: dict[str, str] = {}
    try:
        rows = list(csv.reader(io.StringIO(archive.read(path).decode("utf-8"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{what}: RECORD: {error}") from error
    for row in rows:
        if len(row) != 3:
            raise FormatError(f"{what}: RECORD: want three columns, got {len(row)}")
        name, algorithm, digest = row[0], *row[1].partition("=")[::2]
        if name.rpartition("/")[2] in _SIGNATURES and name.rpartition("/")[0] == path.rpartition("/")[0]:
            continue
        if algorithm != "sha256":
            raise UnsupportedError(f"{what}: RECORD: {name}: want a sha256, got {algorithm or 'no hash'}")
        if name in hashes:
            raise FormatError(f"{what}: RECORD: {name}: appears twice")
        try:
            raw = base64.b64decode(digest + "=" * (-len(digest) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise FormatError(f"{what}: RECORD: {name}: {error}") from error
        hashes[name] = raw.hex()
    return hashes


def _target(path: str, stem: str, what: str) -> str | None:
    """Where a file of the wheel goes in the layer; None if an image leaves it out."""
    top, _, rest = path.partition("/")
    if not top.endswith(".data"):
        return path
    if top != f"{stem}.data":
        raise FormatError(f"{what}: {path}: want one data folder, {stem}.data")
    kind, _, inner = rest.partition("/")
    if kind in ("purelib", "platlib") and inner:
        return inner
    if kind in _INSTALLED and inner:
        return None
    raise FormatError(f"{what}: {path}: want one of purelib, platlib, {', '.join(_INSTALLED)}, got {kind!r}")


def _prune(folder: Path, kept: set[Path]) -> None:
    """Remove from ``folder`` each file that is not from this wheel."""
    for place, folders, names in os.walk(folder):
        for name in [*names, *(name for name in folders if os.path.islink(os.path.join(place, name)))]:
            path = Path(place) / name
            if path not in kept:
                path.unlink()


def _holds(path: Path, size: int, digest: str) -> bool:
    try:
        status = path.lstat()
        return stat.S_ISREG(status.st_mode) and status.st_size == size and hash_of(path) == digest
    except OSError:
        return False


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, origin: Path, digest: str, what: str) -> None:
    origin.parent.mkdir(parents=True, exist_ok=True)
    got, left = hashlib.sha256(), member.file_size
    with archive.open(member) as source, files.replacing(origin) as out:
        while chunk := source.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise FormatError(f"{what}: {member.filename}: is longer than declared")
            got.update(chunk)
            out.write(chunk)
        if left or got.hexdigest() != digest:
            raise AuthenticityError(f"{what}: {member.filename}: does not match its RECORD")
