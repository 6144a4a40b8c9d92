"""Keep an emulated processor in files. Anyone who can read them can sign for it: it protects nothing.

A relying party that trusts its root trusts the user of this computer. So the root is trusted only by naming
its file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from kluis import files
from kluis.authority.amd import Keys, Processor, State
from kluis.errors import FormatError, UnavailableError
from kluis.formats import x509
from kluis.tee import keyfiles

STATE: Final = "processor.json"
LOCK: Final = ".lock"
SECRET_SIZE: Final = 32


def load_or_create(folder: Path, now: datetime) -> Processor:
    """Load the processor that is kept in a folder, or create one.

    Args:
        folder: created with mode 0700 if needed.
        now: aware.

    Raises:
        UnavailableError: a file is another user's, or accessible to others; or at ``now`` its certificates
            are not valid, so that every verifier would refuse its evidence: code ``processor_clock``.
        FormatError: a file is damaged.
    """
    # Written last: with it, all others are there.
    if not (folder / STATE).exists():
        with alone(folder):
            if not (folder / STATE).exists():
                save(Processor.create(now, secret=os.urandom(SECRET_SIZE)), folder)
    keys = Keys(ark=_key(folder / "ark.key"), ask=_key(folder / "ask.key"), chip=_secret(folder / "chip.key"))
    processor = Processor(keys, State.parse(keyfiles.read(folder / STATE)))
    _check_time(processor, folder, now)
    return processor


def _check_time(processor: Processor, folder: Path, now: datetime) -> None:
    (root,) = x509.parse_pem(processor.root_pem(), "ARK")
    if not root.not_before <= now <= root.not_after:
        since, until, shown = (
            f"{each:%Y-%m-%dT%H:%M:%SZ}" for each in (root.not_before, root.not_after, now)
        )
        raise UnavailableError(
            f"{folder}: emulated processor: is valid from {since} to {until}, and the clock shows {shown}",
            hint=f"set the clock; if it was wrong at the first start: rm -r {folder}, and trust the new root",
            code="processor_clock",
        )


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only process that creates secrets in a folder, mode 0700, which is created if needed.

    Two that create the same keys at once would leave a part of each, or one key in use and another on disk.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def save(processor: Processor, folder: Path) -> None:
    """Write a processor's keys and state, each file 0600, atomically."""
    for name, key in (("ark", processor.keys.ark), ("ask", processor.keys.ask)):
        data = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        files.write(folder / f"{name}.key", data)
    files.write(folder / "chip.key", processor.keys.chip)
    files.write(folder / STATE, processor.state.encode())


def _key(path: Path) -> rsa.RSAPrivateKey:
    try:
        key = load_der_private_key(keyfiles.read(path), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise FormatError(f"{path}: want an RSA private key in PKCS#8 DER", code="bad_encoding")
    return key


def _secret(path: Path) -> bytes:
    if len(data := keyfiles.read(path)) != SECRET_SIZE:
        raise FormatError(f"{path}: want {SECRET_SIZE} bytes, got {len(data)}", code="bad_length")
    return data
