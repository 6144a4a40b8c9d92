"""The services' images: built here from what is installed, once, and signed with a key made here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from kluis import files
from kluis.enclave.store.keys.custody import SIGNER_ARGUMENT
from kluis.errors import UsageError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.hashes import sha256
from kluis.tee.image.build import builder, inside

__all__ = ["SERVICES", "STORE_KEYS", "ServiceImage", "folder_of", "image_of"]

SERVICES: Final = ("attestation", "keyvault", "ledger", "provisioning")
STORE_KEYS: Final = ("measurement", "signer")


class ServiceImage(msgspec.Struct, frozen=True):
    """A service's image.

    Attributes:
        path: of the image file.
        image_id: 32 bytes, its measurement.
        mrsigner: 32 bytes; whoever has the key ``author.pem`` beside it can sign in this name.
    """

    path: Path
    image_id: bytes
    mrsigner: bytes


def folder_of(service: str) -> Path:
    """The folder that the service's image is built from.

    Raises:
        UsageError: there is no such service.
    """
    if service not in SERVICES:
        raise UsageError(f"service: want one of {', '.join(SERVICES)}, got {service}")
    return Path(__file__).parent / "images" / service


def image_of(service: str, state: Path, store_key: str, say: Callable[[str], None]) -> ServiceImage:
    """The service's image, built if what it is made from has changed since.

    Args:
        service: its name.
        state: where images and the author's key are kept.
        store_key: whom the key of its store is sealed to: ``measurement``, this very image, which no
            later version of Kluis is; or ``signer``, any image of the author's key. It is measured.
        say: told, a line at a time, of what may take more than a second.

    Raises:
        UnavailableError: this machine lacks what a build needs; says what.
    """
    source = folder_of(service)
    if store_key not in STORE_KEYS:
        raise UsageError(f"store key: want one of {', '.join(STORE_KEYS)}, got {store_key}")
    folder = state / "images" / (service if store_key == "measurement" else f"{service}-{store_key}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made, out = folder / "made.json", folder / f"{service}.kluis"
    want = _fingerprint(source)
    known = _find_made(made)
    if known is not None and known.fingerprint == want and out.exists() and out.stat().st_size == known.size:
        return ServiceImage(out, bytes.fromhex(known.image_id), bytes.fromhex(known.mrsigner))
    made.unlink(missing_ok=True)  # a build that is cut short leaves an image of which nothing is known
    say(f"building the image of {service}")
    work = folder / "source"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work)
    if store_key == "signer":
        with (work / "kluis.toml").open("a") as file:
            file.write(f'argv = ["{SIGNER_ARGUMENT}"]\n')
    built = builder.build(work, out, state / "author.pem", say=say)
    mrsigner = built.mrsigner or bytes(32)
    size = _flush(out)  # first: what is known must not outlive a cut of the power that the image does not
    files.write(made, msgspec.json.encode(_Made(want, built.image_id.hex(), mrsigner.hex(), size)))
    return ServiceImage(out, built.image_id, mrsigner)


class _Made(msgspec.Struct):
    """What an image was made from, and what came of it."""

    fingerprint: str
    image_id: str
    mrsigner: str
    size: int


def _flush(out: Path) -> int:
    """Have an image on its disk; how many bytes it has."""
    with out.open("rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def _find_made(made: Path) -> _Made | None:
    """What is known of an image; nothing where the file is damaged, or of an earlier Kluis."""
    try:
        return msgspec.json.decode(made.read_bytes(), type=_Made)
    except (FileNotFoundError, *UNREADABLE):
        return None


def _fingerprint(source: Path) -> str:
    """SHA-256 (hex) over what goes into the image: Kluis's part as installed, and the service's folder."""
    parts = [f"{file.path} {file.sha256}" for file in inside.layer()]
    parts += [
        f"{file.name} {sha256(file.read_bytes()).hex()}"
        for file in sorted(source.iterdir())
        if file.is_file()
    ]
    return sha256("\n".join(parts).encode()).hex()
