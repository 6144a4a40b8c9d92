"""A guest: the files that boot a confidential virtual machine, in one folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, Self

import msgspec

from kluis.errors import AuthenticityError, FormatError, UnavailableError, UsageError
from kluis.frozen import frozen
from kluis.tee.image import files

NAMES: Final = {"kernel": "vmlinuz", "initrd": "initrd", "root": "root.erofs", "unified": "kluis.efi"}
DESCRIPTION: Final = "guest.json"
MAX_DESCRIPTION: Final = 64 << 10
MAX_COMMAND_LINE: Final = 2047
"""Characters of a command line that Linux accepts on x86-64."""


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``guest.json``.

    Attributes:
        blocks: number of data blocks of the root file system, 4096 bytes each; its hash tree follows.
        command_line: of the kernel.
        digests: SHA-256 of each file, 64 hex digits.
        inputs: SHA-256 over everything that the guest was built from, 64 hex digits.
        kernel: its release, as ``uname -r`` prints it.
        release: of Kluis.
        root_hash: of the root file system under dm-verity, 64 hex digits.
    """

    blocks: int
    command_line: str
    digests: dict[str, str]
    inputs: str
    kernel: str
    release: str
    root_hash: str


@frozen
class Guest:
    """A guest in a folder.

    Attributes:
        kernel: the kernel, as Debian builds it.
        initrd: the initial RAM disk: the first program, and modules.
        root: the root file system, erofs, and its hash tree.
        unified: the unified kernel image, a program for UEFI: kernel, initrd and command line in one.
        command_line: of the kernel; contains the root hash.
        release: of Kluis.
        digests: SHA-256 of the four files, by the names of these attributes, 32 bytes each.
        description: the content of ``guest.json``.
    """

    kernel: Path
    initrd: Path
    root: Path
    unified: Path
    command_line: str
    release: str
    digests: dict[str, bytes]
    description: Description

    @property
    def paths(self) -> dict[str, Path]:
        """The four files, by the names of these attributes."""
        return {"kernel": self.kernel, "initrd": self.initrd, "root": self.root, "unified": self.unified}

    @classmethod
    def open(cls, folder: Path, *, check: bool = True) -> Self:
        """Open a guest.

        Args:
            folder: that :func:`kluis.tee.vm.guest.build` wrote.
            check: compare every file with its digest.

        Raises:
            AuthenticityError: a file is not the one that was built.
            FormatError: the description is malformed.
            UsageError: no guest is there.
        """
        description = _read(folder / DESCRIPTION)
        if set(description.digests) != set(NAMES):
            raise FormatError(f"{folder / DESCRIPTION}: digests: want {', '.join(NAMES)}")
        if (
            not 0 < len(description.command_line) <= MAX_COMMAND_LINE
            or not description.command_line.isascii()
        ):
            raise FormatError(
                f"{folder / DESCRIPTION}: command_line: want 1..{MAX_COMMAND_LINE} ASCII characters"
            )
        paths = {part: folder / name for part, name in NAMES.items()}
        guest = cls(
            **paths,
            command_line=description.command_line,
            release=description.release,
            digests={part: _digest(text, folder) for part, text in description.digests.items()},
            description=description,
        )
        if check:
            guest.check(*paths)
        return guest

    def check(self, *parts: str) -> None:
        """Compare some of the four files with their digests.

        Raises:
            AuthenticityError: a file is not the one that was built.
        """
        for part in parts:
            _check(self.paths[part], self.digests[part].hex())


def write(folder: Path, description: Description) -> None:
    """Write the description of a guest whose files are complete."""
    files.write(folder / DESCRIPTION, msgspec.json.format(msgspec.json.encode(description), indent=1) + b"\n")


def hash_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits.

    Raises:
        UnavailableError: it cannot be read.
    """
    try:
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be read: {error.strerror}") from error


def _read(path: Path) -> Description:
    try:
        with path.open("rb") as f:
            data = f.read(MAX_DESCRIPTION + 1)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}", hint=f"kluis vm guest build -o {path.parent}"
        ) from error
    if len(data) > MAX_DESCRIPTION:
        raise FormatError(f"{path}: want at most {MAX_DESCRIPTION} bytes, got more")
    try:
        return msgspec.json.decode(data, type=Description)
    except msgspec.DecodeError as error:
        raise FormatError(f"{path}: {error}") from error


def _check(path: Path, want: str) -> None:
    if (got := hash_of(path)) != want:
        raise AuthenticityError(f"{path}: want SHA-256 {want}, got {got}")


def _digest(text: str, folder: Path) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise FormatError(f"{folder / DESCRIPTION}: digests: want 64 hex digits, got {text[:80]!a}")
    return value
