"""Sealed memory files: what a machine boots from cannot change after it was measured.

Spec: memfd_create(2), fcntl(2), "File Sealing".
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

from kluis.errors import AuthenticityError, UnavailableError

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
CHUNK_BYTES = 1 << 20


def of_bytes(name: str, data: bytes) -> int:
    """A sealed memory file with ``data``; its descriptor, which the caller closes."""
    made = _create(name)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(made, view[:CHUNK_BYTES]) :]
        return _finish(made)
    except BaseException:
        os.close(made)
        raise


def of_file(name: str, path: Path, hint: str, *, want: bytes | None = None, writable: bool = False) -> int:
    """A sealed memory file with the content of ``path``; its descriptor, which the caller closes.

    Args:
        name: for messages.
        path: of the file.
        hint: the command that fixes it if it cannot be read.
        want: its SHA-256, 32 bytes; None: any.
        writable: not sealed: a copy for one machine.

    Raises:
        AuthenticityError: it has another digest.
        UnavailableError: the file cannot be read.
    """
    made, digest = _create(name), hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as f:
            while chunk := f.read(CHUNK_BYTES):
                digest.update(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[os.write(made, view) :]
        if want is not None and (got := digest.digest()) != want:
            raise AuthenticityError(
                f"machine: {name}: {path}: want SHA-256 {want.hex()}, got {got.hex()}", hint=hint
            )
        return made if writable else _finish(made)
    except OSError as error:
        os.close(made)
        raise UnavailableError(
            f"machine: {name}: {path}: {error.strerror}", hint=hint, code="machine_file"
        ) from error
    except BaseException:
        os.close(made)
        raise


def _create(name: str) -> int:
    return os.memfd_create(f"kluis-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _finish(made: int) -> int:
    fcntl.fcntl(made, fcntl.F_ADD_SEALS, SEALS)
    # QEMU takes a descriptor from a set only if it was opened in the same mode.
    read_only = os.open(f"/proc/self/fd/{made}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(made)
    return read_only
