"""Small secret files: read where they are their owner's alone. ``kluis.files`` writes them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from kluis import files
from kluis.errors import FormatError, UnavailableError

MAX_SIZE: Final = 1 << 20


def read(path: Path) -> bytes:
    """Read the file at ``path``, at most 1 MiB.

    Raises:
        UnavailableError: it is missing, not this user's, or open to others.
        FormatError: it is larger.
    """
    return files.drained(open_checked(path, os.O_RDONLY), path, MAX_SIZE)


def open_checked(path: Path, flags: int) -> int:
    """Open a secret file of this user's, which is open to nobody else; the descriptor is the caller's.

    Raises:
        UnavailableError: it is missing, no regular file, not this user's, or open to others.
    """
    descriptor = files.open_regular(path, flags)
    try:
        _check(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(path: Path, state: os.stat_result) -> None:
    if state.st_uid != os.geteuid():
        raise UnavailableError(f"{path}: want owner {os.geteuid()}, got {state.st_uid}")
    if state.st_mode & 0o077:
        raise UnavailableError(
            f"{path}: want mode 0600, got {stat.S_IMODE(state.st_mode):04o}", hint=f"chmod 600 {path}"
        )


def save_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Put a private key at ``path``, PKCS#8 DER in the clear: the file's mode is its protection."""
    files.write(path, key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a P-256 private key that ``save_key`` wrote.

    Raises:
        UnavailableError: as ``read``.
        FormatError: it is not such a key.
    """
    try:
        key = load_der_private_key(read(path), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FormatError(f"{path}: want a P-256 private key in PKCS#8 DER", code="bad_encoding")
    return key
