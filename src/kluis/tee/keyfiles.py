"""Small secret files: read only if no other user can access them. ``kluis.files`` writes them."""

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
        UnavailableError: it is missing, not this user's, or accessible to others.
        FormatError: it is larger.
    """
    return files.drain(open_checked(path, os.O_RDONLY), path, MAX_SIZE)


def open_checked(path: Path, flags: int) -> int:
    """Open a secret file that only this user can access; the caller owns the descriptor.

    Raises:
        UnavailableError: it is missing, not a regular file, not this user's, or accessible to others.
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
    """Write a private key to ``path``, PKCS#8 DER unencrypted: the file's mode protects it."""
    files.write(path, key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Load a P-256 private key from the output of ``save_key``.

    Raises:
        UnavailableError: as for ``read``.
        FormatError: not such a key.
    """
    try:
        key = load_der_private_key(read(path), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FormatError(f"{path}: want a P-256 private key in PKCS#8 DER", code="bad_encoding")
    return key
